"""The headers of safetensors files, against safetensors itself."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from clipwatch.layouts.files import Damaged, NotWhole
from clipwatch.layouts.header import BITS, Header, read_header
from examples import examples


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """A file to be written over and over."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "x.safetensors"


def file_of(header: object, data: bytes = b"") -> bytes:
    """Return a safetensors file with this header, which may be text, bytes or an object."""
    if isinstance(header, str | bytes):
        raw = header if isinstance(header, bytes) else header.encode()
    else:
        raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def accepted(path: Path, data: bytes) -> Header | None:
    """Return the header that is read from these bytes; None if one of its two errors comes."""
    path.write_bytes(data)
    try:
        return read_header(path)
    except NotWhole:  # or Damaged, which is one
        return None


def opened(path: Path) -> frozenset[str] | None:
    """Return the names of the tensors that safetensors itself finds; None if it refuses."""
    try:
        with safe_open(path, framework="np") as file:
            return frozenset(file.keys())
    except SafetensorError:
        return None


def tensor(dtype: object = "F32", shape: object = (1,), place: object = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


NONSENSE = {
    "no header": b"",
    "no JSON": b"{]",
    "not text": b'{"\xff": 1}',
    "half a surrogate pair": b'{"\\ud800": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"__metadata__": NaN}',
    "no object": b"[]",
    "a string": b'"x"',
    "deep nesting": b"[" * 50_000,
    "deep nesting inside": b'{"a": ' * 50_000,
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a tensor twice": f'{{"a": {json.dumps(tensor())}, "a": {json.dumps(tensor())}}}',
    "a field twice": '{"a": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0,4]}}',
    "metadata of numbers": {"__metadata__": {"a": 1}},
    "metadata of lists": {"__metadata__": []},
    "no tensor": {"a": 1},
    "a tensor without place": {"a": {"dtype": "F32", "shape": [1]}},
    "a tensor with more": {"a": tensor() | {"more": 1}},
    "no type": {"a": tensor(dtype=None)},
    "an unknown type": {"a": tensor(dtype="F128")},
    "an unknown type of nothing": {"a": tensor("F128", [0], [0, 0])},
    "a type that is a list": {"a": tensor(dtype=["F32"])},
    "a shape that is an object": {"a": tensor(shape={})},
    "a shape of truths": {"a": tensor(shape=[True])},
    "a shape of fractions": {"a": tensor(shape=[1.0])},
    "a negative shape": {"a": tensor(shape=[-1], place=[0, -4])},
    "minus nothing": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-0, 4]}}',
    "an overflowing shape": {"a": tensor(shape=[2**63, 2**63, 0], place=[0, 0])},
    "a shape beyond 64 bits": {"a": tensor(shape=[0, 2**64], place=[0, 0])},
    "five million dimensions": {"a": tensor(shape=[2**40] * 100_000)},
    "places of three": {"a": tensor(place=[0, 4, 4])},
    "places of truths": {"a": tensor("U8", [1], [False, True])},
    "an end before its begin": {"a": tensor(place=[4, 0])},
    "type and shape of other size": {"a": tensor(shape=[2])},
    "half a byte": {"a": tensor("F4", [3], [0, 1])},
    "a gap before": {"a": tensor(place=[4, 8])},
    "a gap between": {"a": tensor(), "b": tensor(place=[8, 12])},
    "overlapping": {"a": tensor(), "b": tensor(place=[0, 4])},
    "overlapping by half": {"a": tensor(), "b": tensor(place=[2, 6])},
}


@pytest.mark.parametrize("header", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_in_a_header_is_damage_in_one_line(path: Path, header: object) -> None:
    """What more bytes cannot mend is told so, in a line; safetensors refuses it too, or we more."""
    path.write_bytes(file_of(header, b"1234"))
    with pytest.raises(Damaged, match="has no valid safetensors header: ") as told:
        read_header(path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 150


def test_a_header_length_beyond_all_measure_is_damage(path: Path) -> None:
    """More than safetensors' own limit, whatever the size of the file; nothing is read for it."""
    for length in (100_000_001, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(Damaged, match="not safetensors"):
            read_header(path)


def test_more_bytes_than_the_header_tells_of_are_damage(path: Path) -> None:
    """Nothing that is added makes such a file whole."""
    path.write_bytes(file_of({"a": tensor()}, b"12345"))
    with pytest.raises(Damaged, match="is damaged: "):
        read_header(path)


def test_every_beginning_of_a_file_may_still_grow(path: Path) -> None:
    """Cut at every byte of a real file: not whole, and never damaged."""
    save_file({"a": np.ones((3, 5), np.float32), "b": np.ones(7, np.float16)}, path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(NotWhole) as told:
            read_header(path)
        assert not isinstance(told.value, Damaged)
    path.write_bytes(whole)
    assert read_header(path).tensors == {"a", "b"}


@given(st.binary(max_size=200))
@example(struct.pack("<Q", 2) + b"{}")
def test_no_bytes_upset_the_reading_of_headers(path: Path, data: bytes) -> None:
    """Whatever stands in a file, its header is read or one of the two errors comes."""
    header = accepted(path, data)
    assert header is None or header.tensors == opened(path)


NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
DTYPES = st.sampled_from(["float32", "float16", "float64", "int8", "uint8", "int64", "bool"])


@given(
    st.dictionaries(NAMES.filter(lambda name: name != "__metadata__"), st.tuples(DTYPES, SHAPES)),
    st.none() | st.dictionaries(NAMES, NAMES, min_size=1),  # of an empty one it writes no JSON
)
def test_whatever_safetensors_writes_is_read(
    path: Path, tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str] | None
) -> None:
    """Names, shapes, types and metadata of any kind that its own writer takes."""
    save_file(
        {name: np.zeros(shape, dtype) for name, (dtype, shape) in tensors.items()}, path, metadata
    )
    assert read_header(path) == Header(frozenset(tensors), metadata or {})


SIZES = st.sampled_from([0, 1, 2, 4, 8, -1, 3, 2**62, 2**64, True, 1.0, None, "4"])
ODD = st.one_of(
    SIZES, st.lists(SIZES, max_size=3), st.floats(), st.dictionaries(NAMES, NAMES, max_size=2)
)


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Return a header that is right, or wrong in one place, and how many bytes it speaks of."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(BITS))), draw(SHAPES)
        end = position + BITS[dtype] * prod(shape) // 8
        header[name] = tensor(dtype, shape, [position, end])
        position = end
    wrong = draw(st.sampled_from([*header, None, "__metadata__"]))
    if wrong == "__metadata__":
        header[wrong] = draw(ODD)
    elif wrong is not None:
        header[wrong][draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))] = draw(ODD)
    return header, position


@examples(1000)
@given(headers(), st.sampled_from([0, 0, 0, 1]))
def test_what_is_accepted_safetensors_opens(
    path: Path, header: tuple[dict[str, Any], int], more: int
) -> None:
    """No header passes here that the evaluator's own reader would refuse."""
    found = accepted(path, file_of(header[0], bytes(header[1] + more)))
    assert found is None or found.tensors == opened(path)


@examples(1000)
@given(st.data())
def test_a_real_file_with_changed_bytes_is_never_a_surprise(
    path: Path, data: st.DataObject
) -> None:
    """Bytes changed, taken out or put in: accepted only where safetensors accepts it."""
    save_file({"a": np.ones((3, 5), np.float32), "b": np.ones(7, np.float16)}, path, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, 170))
        end = begin + data.draw(st.integers(0, 3))
        content[begin:end] = data.draw(st.binary(max_size=3) | st.sampled_from([b"0", b"9", b'"']))
    found = accepted(path, bytes(content))
    assert found is None or found.tensors == opened(path)
