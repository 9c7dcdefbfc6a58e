"""SQLite's write-ahead log: what it holds, and what SQLite would silently drop from it.

SQLite reads it up to the first frame whose checksum is wrong, takes that for its end, and the next
writer overwrites the rest: behind a bad bit, acknowledged commits.
The layout: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, sequence, two salts, two sums
_FRAME = struct.Struct(">6I")  # page, pages of the database if it commits, two salts, two sums
_MAGIC = 0x377F0682  # with the last bit set the sums are those of big-endian words

HEADER = _HEADER.size
"""Bytes before the first frame."""

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wal:
    """What SQLite reads of it, and what stands behind that.

    `pages` gives where the newest committed image of each page begins, `size` how many pages the
    database has after it, `end` where the first invalid frame begins, and `lost` how many commits
    of the same generation stand behind it.
    """

    pages: Mapping[int, int] = field(default_factory=dict)
    size: int = 0
    page_size: int = 0
    end: int = 0
    lost: int = 0


def beside(path: Path) -> Path:
    """Return the write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def parse(data: bytes) -> Wal:
    """Read a write-ahead log as SQLite does."""
    if len(data) < _HEADER.size + _FRAME.size:
        return Wal()
    magic, _, page_size, _, *salts_and_sums = _HEADER.unpack_from(data)
    order = ">" if magic & 1 else "<"
    sums = _sum(order, data[: _HEADER.size - 8], (0, 0))
    valid = magic & ~1 == _MAGIC and salts_and_sums[2:] == [*sums]
    salts = salts_and_sums[:2] if valid else [*_FRAME.unpack_from(data, _HEADER.size)[2:4]]
    if not valid and page_size not in {1 << n for n in range(9, 17)}:
        page_size = 4096
    pages: dict[int, int] = {}
    pending: dict[int, int] = {}
    size, end, lost = 0, _HEADER.size, 0
    step = _FRAME.size + page_size
    for start in range(_HEADER.size, len(data) - step + 1, step):
        page, commit, *marks = _FRAME.unpack_from(data, start)
        body = start + _FRAME.size
        if valid:
            sums = _sum(order, data[start : start + 8] + data[body : start + step], sums)
            valid = marks == [*salts, *sums]
        if not valid:
            lost += bool(commit) and marks[:2] == salts
            continue
        end = start + step
        pending[page] = body
        if commit:
            pages |= pending
            pending.clear()
            size = commit
    return Wal(pages, size, page_size, end, lost)


def lost_commits(path: Path) -> int:
    """Return how many commits stand behind a bad place in the -wal of the database at `path`.

    One may be a write that a power cut interrupted, of which nobody was told. Two cannot: a commit
    is begun only when the one before it is on the disk.
    """
    first = _look(path)
    if first.lost == 0:
        return 0
    # a commit written while we read shows the same, but is whole at a second look
    second = _look(path)
    return second.lost if second.end == first.end else 0


def _look(path: Path) -> Wal:
    try:
        return parse(beside(path).read_bytes())
    except FileNotFoundError:
        return Wal()


def _sum(order: str, data: bytes, sums: Sums) -> Sums:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
