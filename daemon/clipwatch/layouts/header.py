"""The header of a safetensors file: what it may say, and whether the file bears it out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwatch.layouts.files import Damaged, NotWhole, opened

HEADER_LIMIT = 100_000_000
"""Bytes; safetensors' own limit (MAX_HEADER_SIZE in its Rust source)."""

BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Of one element; safetensors 0.8.0 knows these types."""

FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself: tensor names and the free metadata."""

    tensors: frozenset[str]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read a safetensors header and check it against the file's size.

    What passes can be opened by safetensors itself.

    Raises:
        NotWhole: The file is shorter than its header says, or gone.
        Damaged: The header is nonsense, or the file longer than it says.
        NotReadable: It may not be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_LIMIT:
            raise Damaged(f"{path.name} is not safetensors: a header of {length} bytes")
        if size < 8 + length:
            raise NotWhole(f"{path.name} is not whole: {size} bytes do not hold its header")
        raw = file.read(length)
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_once, parse_int=_natural)
        metadata = header.pop("__metadata__", None)
        metadata = {} if metadata is None else metadata
        "".join(metadata.values()).encode()
        end = 8 + length + _end(list(header.values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "not the JSON that it should be"
        raise Damaged(f"{path.name} has no valid safetensors header: {why}") from error
    if end > size:
        raise NotWhole(f"{path.name} is not whole: {size} bytes of {end}")
    if end < size:
        raise Damaged(f"{path.name} is damaged: {size} bytes, its header tells of {end}")
    return Header(frozenset(header), metadata)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    "".join(found).encode()  # half a surrogate pair is no text
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _natural(text: str) -> int:
    if not text.isdecimal() or len(text) > 20:  # noqa: PLR2004 - digits of 2**64
        raise ValueError("a number in it is no size")
    return int(text)


def _end(tensors: list[dict[str, Any]]) -> int:
    """Return where the last tensor ends, having made sure that they lie one behind the other."""
    position = 0
    for begin, end in sorted(map(_span, tensors)):
        if begin != position:
            raise ValueError("its tensors overlap or leave gaps")
        position = end
    return position


def _span(tensor: dict[str, Any]) -> tuple[int, int]:
    """Return where a tensor begins and ends, having made sure that its values fill just that."""
    if tensor.keys() != FIELDS:
        raise ValueError("a tensor has other fields than type, shape and place")
    place = _sizes(tensor["data_offsets"])
    if len(place) != 2:  # noqa: PLR2004 - begin and end
        raise ValueError("a tensor's place is no place")
    elements = 1
    for size in _sizes(tensor["shape"]):
        elements *= size or 1  # a dimension of 0 counts last: the reader's product may not overflow
        if elements >= 1 << 57:
            raise ValueError("a tensor's shape is no shape")
    if tensor["dtype"] not in BITS:
        raise ValueError("a tensor's type is unknown")
    bits = 0 if 0 in tensor["shape"] else elements * BITS[tensor["dtype"]]
    if bits != 8 * (place[1] - place[0]):
        raise ValueError("a tensor's type and shape do not make its bytes")
    return place[0], place[1]


def _sizes(listed: Any) -> list[int]:
    if not isinstance(listed, list) or any(type(size) is not int for size in listed):
        raise ValueError("what should be sizes are none")
    return listed
