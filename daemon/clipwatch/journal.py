"""The append-only log, in SQLite; the only file that knows so.

An event exists once `append` returned, or once anybody can read it: after a crash fold the log and
decide again, never repeat the last append.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Self

import msgspec

from clipwatch.errors import Conflict, JournalError
from clipwatch.events import Event, decode, encode

FORMAT = 1
"""The log's `user_version`: raised when an older clipwatch could no longer read the file."""

PAGE = 1000
BUSY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place: `seq` in the whole log, `version` in its stream, both from 1."""

    seq: int
    time: datetime
    run: str
    stream: str
    version: int
    event: Event


def log_file(state_dir: Path) -> Path:
    """Return the log's file in a state directory."""
    return state_dir / "clipwatch.db"


def _now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """One log file; not to be shared between threads, and closed by `with`.

    Args:
        path: The file; made with its folder unless `read_only`. It must lie on a local disk:
            SQLite's write-ahead log does not work on NFS or Lustre.
        read_only: Open for reading beside a running daemon.
        clock: Gives the time of appended events.

    Raises:
        JournalError: The file cannot be opened, is no log, or was written by a newer clipwatch.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, clock: Callable[[], datetime] = _now
    ) -> None:
        self.path = path
        self._clock = clock
        with self._named():
            if read_only:
                self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
                self._db = sqlite3.connect(path)
        try:
            with self._named():
                self._open(read_only=read_only)
        except JournalError:
            self._db.close()
            raise

    def _open(self, *, read_only: bool) -> None:
        self._db.isolation_level = None
        self._db.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        found = self._format()
        if found > FORMAT:
            raise JournalError(
                f"{self.path}: written by a newer clipwatch (format {found}, this one reads up to "
                f"{FORMAT}): upgrade clipwatch or choose another --state-dir"
            )
        if not read_only:
            self._use_wal()
            self._db.execute("PRAGMA synchronous = FULL")
            schema = (files("clipwatch") / "schema.sql").read_text()
            # one transaction: a reader sees the whole log or an empty file
            self._db.executescript(
                f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {FORMAT}; COMMIT;"
            )

    def _use_wal(self) -> None:
        """Switch to the write-ahead log; SQLite does not wait if another does the same just now."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}") from error

    def append(self, run: str, stream: str, expected: int, events: Sequence[Event]) -> int:
        """Add events to a stream, all or none, durably; return the stream's new version.

        Args:
            run: The run they belong to.
            stream: The stream, whose name is unique over all runs.
            expected: The stream's version that the decision was made on; 0 for a new stream.
            events: In order; none is allowed.

        Raises:
            Conflict: The stream has another version.
            JournalError: The file cannot be written; nothing was added.
        """
        if not events:
            return expected
        now = self._clock().astimezone(UTC).isoformat()
        with self._named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                version = self.version(stream)
                if version != expected:
                    raise Conflict(f"{stream}: version is {version}, not {expected}")
                last = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
                self._db.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (last + n, now, run, stream, expected + n, *encode(event))
                        for n, event in enumerate(events, 1)
                    ],
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        return expected + len(events)

    def version(self, stream: str) -> int:
        """Return how many events the stream has."""
        with self._named():
            row = self._db.execute(
                "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?", (stream,)
            ).fetchone()
        return int(row[0])

    def read(self, after: int = 0, *, stream: str | None = None) -> Iterator[Recorded]:
        """Yield events with `seq` above `after`, in order, and end at the present end.

        The log is read in pages, so a slow consumer pins nothing and blocks nobody.

        Raises:
            JournalError: A row cannot be read; it says which.
        """
        condition, arguments = ("", ()) if stream is None else ("AND stream = ?", (stream,))
        query = (
            "SELECT seq, time, run, stream, version, type, data FROM events "  # noqa: S608 - constant parts
            f"WHERE seq > ? {condition} ORDER BY seq LIMIT {PAGE}"
        )
        while True:
            with self._named():
                if self._format() == 0:  # the writer is only about to make it
                    return
                rows = self._db.execute(query, (after, *arguments)).fetchall()
            for seq, at, run, of_stream, version, type_name, data in rows:
                try:
                    event = decode(type_name, data)
                    when = datetime.fromisoformat(at)
                except KeyError as error:
                    raise JournalError(
                        f"{self.path}: event {seq} is a {type_name}, which this version does not "
                        "know: upgrade clipwatch"
                    ) from error
                except (msgspec.MsgspecError, ValueError) as error:
                    raise JournalError(f"{self.path}: event {seq} is damaged: {error}") from error
                yield Recorded(seq, when, run, of_stream, version, event)
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
