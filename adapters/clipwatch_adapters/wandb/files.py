"""Read `.wandb` files: W&B's protobuf records in LevelDB log frames, without W&B's package.

Format: 7 bytes of header, then blocks of 32 KiB (the header counts) of frames: CRC-32 over kind
and data, length, kind (whole, first, middle or last part of a record), data. Field numbers are
those of wandb_internal.proto; `test_wandb_offline.py` holds them against files by the real package.
"""

from __future__ import annotations

import json
import struct
import zlib
from fnmatch import fnmatch
from itertools import islice
from typing import TYPE_CHECKING, Any

from clipwatch_adapters.shared.disk import private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32768
FRAME = struct.Struct("<IHB")
WHOLE, FIRST, _MIDDLE, LAST = 1, 2, 3, 4

HISTORY, RUN, EXIT = 2, 17, 18
"""Fields of a Record."""
ITEM, KEY, NESTED_KEY, VALUE_JSON = 1, 1, 2, 16
"""Fields of a HistoryRecord and of its items."""
RUN_ID, PROJECT = 1, 3
"""Fields of a RunRecord."""


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a `.wandb` file up to the first torn or damaged one.

    Raises:
        OSError: The file cannot be read, or is a link or a pipe.
    """
    with open(path, "rb", opener=private) as file:
        if file.read(len(HEADER)) != HEADER:
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


def _parts(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the sub-messages and strings in a field."""
    return (value for n, value in fields(message) if n == number and isinstance(value, bytes))


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder, by name; nothing if there is no such folder.

    Raises:
        OSError: The folder cannot be read. `glob` would hide that, and the runs with it.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch(path.name, pattern))
    except FileNotFoundError:
        return []


def finished_rows(folder: Path) -> tuple[dict[str, Any], ...] | None:
    """Return the history rows in a run's folder in order; None unless it was finished whole.

    Raises:
        OSError: The folder or its file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    finished = False
    try:
        for path in matching(folder, "run-*.wandb"):
            for record in records(path):
                rows.extend(_row(history) for history in _parts(record, HISTORY))
                finished = finished or any(True for _ in _parts(record, EXIT))
    except ValueError:
        return None
    return tuple(rows) if finished else None


def _row(history: bytes) -> dict[str, Any]:
    row = {}
    for item in _parts(history, ITEM):
        names = [*_parts(item, NESTED_KEY)] or [*_parts(item, KEY)]
        name = ".".join(name.decode() for name in names)
        row[name] = json.loads(next(_parts(item, VALUE_JSON), b"null"))
    return row


def trainer_run(folder: Path, project: str) -> str:
    """Return the id of the run that a trainer last began below its `wandb` folder.

    "" if there is none, if it belongs to another project, or if its file does not say yet (W&B
    writes the record some 15 s after the start).
    """
    try:
        for path in matching(folder / "latest-run", "run-*.wandb"):
            for record in islice(records(path), 100):
                for run in _parts(record, RUN):
                    names = {n: value for n, value in fields(run) if n in {RUN_ID, PROJECT}}
                    found, owner = names.get(RUN_ID, b""), names.get(PROJECT, b"")
                    if isinstance(found, bytes) and owner == project.encode():
                        return found.decode()
    except (OSError, ValueError):
        pass  # unreadable is as good as absent: the group falls back to the run's name
    return ""
