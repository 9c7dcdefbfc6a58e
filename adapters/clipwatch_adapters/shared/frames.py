"""Records in LevelDB log frames, and protobuf messages in them, without the packages of either.

So W&B (`.wandb`) and SwanLab (`.swanlab`) write runs. Format: 7 bytes of header, then blocks of
32 KiB (the header counts) of frames: CRC-32 over kind and data, length, kind (whole, first, middle
or last part of a record), data.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from clipwatch_adapters.shared.disk import private

BLOCK = 32768
FRAME = struct.Struct("<IHB")
WHOLE, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path, header: bytes) -> Iterator[bytes]:
    """Yield the records of a file with this header up to the first torn or damaged one.

    Raises:
        OSError: The file cannot be read, or is a link or a pipe.
    """
    with open(path, "rb", opener=private) as file:
        if file.read(len(header)) != header:
            return
        record = b""
        while True:
            room = BLOCK - file.tell() % BLOCK
            if room < FRAME.size:
                file.seek(room, 1)
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return
            crc, length, kind = FRAME.unpack(head)
            data = file.read(length)
            if len(data) < length or zlib.crc32(head[-1:] + data) != crc:
                return
            record = data if kind in {WHOLE, FIRST} else record + data
            if kind in {WHOLE, LAST}:
                yield record


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protobuf message; fixed-size numbers as their bytes.

    Raises:
        ValueError: It is not a protobuf message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        value: int | bytes
        if wire_type == 0:
            value, at = _varint(message, at)
        else:
            if wire_type == 2:  # noqa: PLR2004 - protobuf's "length-delimited"
                size, at = _varint(message, at)
            elif wire_type in {1, 5}:
                size = 8 if wire_type == 1 else 4
            else:
                raise ValueError(f"wire type {wire_type}")
            value = message[at : at + size]
            at += size
            if at > len(message):
                raise ValueError("message ends inside a field")
        yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - protobuf's continuation bit
            return value, at
    raise ValueError("message ends inside a number")


def parts(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the sub-messages and strings in a field."""
    return (value for n, value in fields(message) if n == number and isinstance(value, bytes))
