"""What a normal end leaves beside the log: how far all of it was checked, and the file's checksum.

The next start compares that with the file as fast as the disk gives it, instead of walking through
SQLite's tree and every row. One changed bit anywhere, another file or a -wal that was left over,
and it looks at everything; so it does after a change of version, and once a week, because bits that
turned while a daemon ran may stand in the checksum itself.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from clipwatch import __version__
from clipwatch.journal import logfile, wal
from clipwatch.kit.decoding import decoder
from clipwatch.kit.ownfiles import read_own, write_private

BY = f"clipwatch {__version__}, SQLite {sqlite3.sqlite_version}"
"""Who checked; another may look for more."""

LASTING = timedelta(days=7)
"""How long a check of everything counts."""

_CHUNK = 1 << 20


class Mark(msgspec.Struct, frozen=True):
    """What was checked: the events up to `seq`, and SQLite's structure.

    `size` (bytes) and `crc32` are the whole file's, `whole` is when each row was last looked at.
    """

    by: str
    seq: int
    whole: datetime
    size: int
    crc32: int


def beside(path: Path) -> Path:
    """Return where the mark of the log at `path` stands."""
    return path.with_name(f"{path.name}-checked")


def trusted(path: Path, now: datetime) -> Mark | None:
    """Return what is known of the log as it lies there; None if it must be looked at."""
    try:
        mark: Mark = decoder(Mark).decode(read_own(beside(path)))
        fresh = mark.by == BY and timedelta() <= now - mark.whole < LASTING
        if not fresh or wal.beside(path).exists() or path.stat().st_size != mark.size:
            return None
        return mark if _sum(path) == mark.crc32 else None
    except (OSError, msgspec.MsgspecError, TypeError):  # a time without its zone
        return None


def leave(path: Path, seq: int, whole: datetime) -> None:
    """Mark the log if it is sound: every row up to `seq` was checked, and nobody has it open.

    What hinders that is no trouble: the next start looks at everything.
    """
    with suppress(OSError, sqlite3.Error):
        if wal.beside(path).exists():
            return
        with closing(logfile.connect_read_only(path)) as db:
            last = db.execute("SELECT max(seq) FROM events").fetchone()[0]
            if last != seq or fault(db):
                return
        mark = Mark(BY, seq, whole, path.stat().st_size, _sum(path))
        write_private(beside(path), msgspec.json.encode(mark), lasting=False)  # it can be lost


def fault(db: sqlite3.Connection) -> str | None:
    """Return the first thing that SQLite finds wrong with its structure."""
    found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return None if found == "ok" else " ".join(found.split())


def _sum(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
