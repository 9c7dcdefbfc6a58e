"""Read `.swanlab` files, without SwanLab's package.

Field numbers are those of swanlab's record.proto and data.proto; `test_swanlab.py` holds them
against SwanLab's own reader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from clipwatch_adapters.shared.frames import fields, parts, records

HEADER = struct.pack("<4sHB", b":SWL", 0xE1D6, 2)

FINISH, SCALAR, MEDIA = 11, 13, 14
"""Fields of a Record."""
KEY, STEP, VALUE = 1, 2, 5
"""Fields of a ScalarRecord and of a MediaRecord."""
NUMBER, ITEMS, CAPTION = 1, 1, 4
"""Fields of a ScalarValue, of a MediaValue and of its items."""

EVALUATION = "clipwatch/evaluation"
"""Key of texts of ours, whose captions name the rows that came with a step."""


def held(batch: Path) -> frozenset[str] | None:
    """Return the ids of the rows in a folder with one run, None unless that was finished whole.

    Raises:
        OSError: It cannot be read, or there is a link or a pipe.
    """
    found: set[str] = set()
    finished = False
    try:
        for record in _records(batch):
            for media in parts(record, MEDIA):
                if next(parts(media, KEY), b"").decode() == EVALUATION:
                    items = (it for value in parts(media, VALUE) for it in parts(value, ITEMS))
                    found.update(next(parts(it, CAPTION), b"").decode() for it in items)
            finished = finished or any(True for _ in parts(record, FINISH))
    except ValueError:
        return None
    return frozenset(found) if finished else None


def points(batch: Path) -> list[tuple[str, int, float]]:
    """Return name, step and value of all numbers in such a folder, in their order.

    Raises:
        OSError, ValueError: It cannot be read, or is damaged.
    """
    return [_point(scalar) for record in _records(batch) for scalar in parts(record, SCALAR)]


def _point(scalar: bytes) -> tuple[str, int, float]:
    step = next((value for number, value in fields(scalar) if number == STEP), 0)
    number = next((it for value in parts(scalar, VALUE) for it in parts(value, NUMBER)), bytes(8))
    return next(parts(scalar, KEY), b"").decode(), int(step), *struct.unpack("<d", number)


def _records(batch: Path) -> Iterator[bytes]:
    files = [it for run in batch.iterdir() if run.is_dir() for it in run.glob("run-*.swanlab")]
    for file in sorted(files):
        yield from records(file, HEADER)
