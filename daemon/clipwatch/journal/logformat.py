"""What a log's file looks like: its marks, its table, the checksum of a row, its older formats."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from clipwatch.kit.errors import JournalError

FORMAT = 2
"""The log's `user_version`: raised when an older clipwatch could no longer read the file.

1: as now, but without checksums and without our application id. 2: with both.
"""

PACKED = 3
"""As FORMAT, but images may stand in columns: `clipwatch compact` writes it, and nothing else."""

LANDMARKS = "type NOT IN ('ImagesScored', 'ImagesRescored')"
"""The few rows that are no images, as the index of schema.sql has them."""

APPLICATION_ID = int.from_bytes(b"clip", "big")
"""Says in the file's header whose it is."""

Content = tuple[int, str, str, str, int, str, str]
"""seq, time, run, stream, version, type, data."""

EventRow = tuple[int, str, str, str, int, str, str, int | None]
"""The content and its crc, which rows written in format 1 lack."""

COLUMNS = ("seq", "time", "run", "stream", "version", "type", "data", "crc")


class LogDamaged(JournalError):  # noqa: N818 - says what happened
    """The file is not what was written; `what` is wrong with it, and nothing was changed in it."""

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        super().__init__(
            f"{path}: {what}", fix="clipwatch log --verify tells what can still be read"
        )


def checksum(content: Content) -> int:
    """Return the CRC-32 of a row: it notices every single wrong bit, which SQLite does not."""
    return zlib.crc32(msgspec.msgpack.encode(content))


def stored_format(db: sqlite3.Connection) -> int:
    """Return the number that the file's header has for its format, 0 before there is a log."""
    return _pragma(db, "user_version")


def identify(db: sqlite3.Connection, path: Path) -> int:
    """Return the file's format, 0 of an empty database.

    Raises:
        JournalError: It was written by a newer clipwatch or by another program.
        LogDamaged: It is ours, but its header or its schema is not what we wrote.
    """
    with _moment(db):
        found, mark = stored_format(db), _pragma(db, "application_id")
        names = db.execute("SELECT name FROM pragma_table_info('events')").fetchall()
        empty = db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    columns = tuple(name for (name,) in names)
    if mark == APPLICATION_ID and found > PACKED:
        raise JournalError(
            f"{path}: written by a newer clipwatch (format {found}, this one reads up to {PACKED})",
            fix="upgrade clipwatch or choose another --state-dir",
        )
    if (found, mark, columns) == (1, 0, COLUMNS[:-1]):
        return 1
    if mark == APPLICATION_ID and found > 1 and columns == COLUMNS:
        return found
    if mark == APPLICATION_ID or columns in (COLUMNS, COLUMNS[:-1]):
        raise LogDamaged(path, f"its header says format {found} of application {mark:#x}")
    if (found, mark, empty) == (0, 0, True):
        return 0
    raise JournalError(
        f"{path}: the database of another program, left as it is", fix="choose another --state-dir"
    )


def bring_up_to_date(db: sqlite3.Connection, found: int) -> None:
    """Make the log, or what an older format lacks; within the caller's transaction."""
    if found == 1:
        db.execute("ALTER TABLE events ADD COLUMN crc INTEGER")
    if not has_index(db):
        statements = (files("clipwatch.journal") / "schema.sql").read_text().split("\n\n")
        for statement in statements if found == 0 else statements[-1:]:  # which makes the index
            db.execute(statement)
    if found < FORMAT:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")


def has_index(db: sqlite3.Connection) -> bool:
    """Whether it has the index of LANDMARKS: logs of earlier versions lack it."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'events_of_runs'"
    return db.execute(query).fetchone() is not None


@contextmanager
def _moment(db: sqlite3.Connection) -> Iterator[None]:
    """Show the file as it is at one moment: another process may just be making or upgrading it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    value: Any = db.execute(f"PRAGMA {name}").fetchone()[0]
    return int(value)
