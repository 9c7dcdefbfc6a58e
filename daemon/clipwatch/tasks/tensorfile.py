"""Safetensors files, read and written one tensor at a time: no torch, and never a whole file.

Nothing is mapped, and no file stays open between two tensors: a trainer may cut or delete what is
read here at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.kit.errors import CheckpointError
from clipwatch.kit.ownfiles import write_private
from clipwatch.layouts.files import NotReadable, NotWhole, opened
from clipwatch.layouts.header import BITS, read_header

Floats = NDArray[np.float32]

_PLAIN: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
FLOATS: Final = frozenset({*_PLAIN, "BF16"})
"""Types of which averages are made."""

_LENGTH: Final = 8  # of the number with which a file begins


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of a tensor: its type, its shape, and where it lies."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


class TensorFile:
    """A safetensors file as it was when this was made.

    Raises:
        CheckpointError: It cannot be read, is none, or is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.metadata = read_header(path).metadata
            with opened(path) as file:
                length = int.from_bytes(file.read(_LENGTH), "little")
                told = json.loads(file.read(length))
        except (NotWhole, NotReadable, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        told.pop("__metadata__", None)
        start = _LENGTH + length
        self.entries = {
            name: Entry(it["dtype"], tuple(it["shape"]), start + begin, end - begin)
            for name, it in told.items()
            for begin, end in (it["data_offsets"],)
        }

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes.

        Raises:
            CheckpointError: They are not there any more.
        """
        entry = self.entries[name]
        try:
            with opened(self.path) as file:
                file.seek(entry.begin)
                data = file.read(entry.size)
        except (NotWhole, NotReadable, OSError) as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        if len(data) < entry.size:
            raise CheckpointError(f"{self.path} was cut while it was read")
        return data

    def floats(self, name: str) -> Floats:
        """Return a tensor in float32.

        Raises:
            CheckpointError: It is not there any more, or holds no floats, as quantised ones do.
        """
        entry = self.entries[name]
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{self.path}: {name} is {entry.dtype}, and quantised weights are not averaged"
            )
        data = self.raw(name)
        if entry.dtype == "BF16":
            bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return bits.view(np.float32).reshape(entry.shape)
        found = np.frombuffer(data, _PLAIN[entry.dtype])
        return found.astype(np.float32).reshape(entry.shape)


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that is to be written; `data` makes its bytes when it is its turn."""

    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], bytes]


def as_bytes(values: Floats, dtype: str) -> bytes:
    """Return floats in one of FLOATS, each the nearest that there is.

    Raises:
        ValueError: One is not finite there: too large for float16, say.
    """
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
            rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) & 0xFFFF0000  # to even, where between
            finite = np.isfinite(values) & np.isfinite(rounded.view(np.float32))
            data = (rounded >> 16).astype("<u2")
        else:
            data = values.astype(_PLAIN[dtype])
            finite = np.isfinite(data)
    if not finite.all():
        raise ValueError(f"it holds NaN or infinity in {dtype}")
    return data.tobytes()


def write(path: Path, tensors: Mapping[str, Made], metadata: Mapping[str, str]) -> None:
    """Write a file that only its owner can read; there is all of it under its name, or nothing.

    Raises:
        OSError: There is no space, or the disk fails.
        ValueError: A tensor cannot be made; its name stands before the reason.
    """
    # the widest first, so that each lies where its type may begin
    order = sorted(tensors, key=lambda it: (-BITS[tensors[it].dtype], it))
    write_private(path, _pieces([(name, tensors[name]) for name in order], metadata), lasting=True)


def _pieces(tensors: Sequence[tuple[str, Made]], metadata: Mapping[str, str]) -> Iterator[bytes]:
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, it in tensors:
        size = prod(it.shape) * BITS[it.dtype] // 8
        offsets = [place, place := place + size]
        header[name] = {"dtype": it.dtype, "shape": list(it.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH)
    yield len(text).to_bytes(_LENGTH, "little") + text
    for name, it in tensors:
        try:
            yield it.data()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
