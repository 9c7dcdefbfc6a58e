"""A log as it is at one moment, read without a trace: another machine's, a copy, one in use.

SQLite makes a -shm beside a log that has a -wal, and may merge the one into the other: what must
not be written to is read into memory, as many bytes as it has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from clipwatch.journal import checked, logfile, wal
from clipwatch.journal.logformat import LogDamaged, identify
from clipwatch.journal.reading import Reader, named
from clipwatch.kit.errors import JournalError, LogLocked

TRIES: Final = 20
"""How often a log is read that is written so fast that SQLite begins its -wal anew meanwhile."""


@contextmanager
def snapshot(path: Path) -> Iterator[Reader]:
    """Read a log's file, with what stands in its -wal; nothing there is changed or made.

    Raises:
        LogDamaged: It is not what was written.
        JournalError: It is no log, cannot be read, or was written by a newer clipwatch.
    """
    with named(path):
        logfile.check(path)
        copy = _at_one_moment(path)
    if (lost := wal.lost_commits(path)) > 1:
        raise LogDamaged(path, f"{lost} commits in its -wal stand behind a damaged place")
    with closing(sqlite3.connect(":memory:")) as db:
        with named(path):
            if copy:
                db.deserialize(without_wal(copy))
            if identify(db, path) == 0:
                raise JournalError(f"{path}: there is no log in it")
            if found := checked.fault(db):
                raise LogDamaged(path, found)
        yield Reader(path, db)


def merged(base: bytes, pending: bytes) -> bytes:
    """Return a database with what stands in its -wal."""
    copy, newest = bytearray(base), wal.parse(pending)
    for page, start in newest.pages.items():
        at = (page - 1) * newest.page_size
        copy.extend(bytes(max(0, at - len(copy))))
        copy[at : at + newest.page_size] = pending[start : start + newest.page_size]
    return bytes(copy)


def without_wal(copy: bytes) -> bytes:
    """Return a database that has no -wal, by its header too: in memory it could have none.

    https://www.sqlite.org/fileformat2.html#file_format_version_numbers
    """
    return copy[:18] + b"\1\1" + copy[20:] if copy[18:20] == b"\2\2" else copy


def pending(path: Path) -> bytes:
    """Return the -wal of a database, b"" for none."""
    log = wal.beside(path)
    return log.read_bytes() if log.exists() else b""


def _at_one_moment(path: Path) -> bytes:
    """What SQLite moves out of the -wal stays in it, too, until it begins the -wal anew."""
    before = pending(path)
    for _ in range(TRIES):
        base = path.read_bytes()
        after = pending(path)
        if after[: wal.HEADER] == before[: wal.HEADER]:
            return merged(base, after)
        before = after
    raise LogLocked(f"{path}: is written all the time", fix="try again later")
