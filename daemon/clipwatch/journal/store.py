"""The append-only log, in SQLite.

An event exists once `append` returned, or once anybody can read it: after a crash fold the log and
decide again, never repeat the last append.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec

from clipwatch.domain.events import Event
from clipwatch.domain.written import decode, encode
from clipwatch.journal import logfile, wal
from clipwatch.journal.logformat import (
    FORMAT,
    LogDamaged,
    Row,
    bring_up_to_date,
    checksum,
    identify,
    stored_format,
)
from clipwatch.kit.errors import Conflict, JournalError

PAGE = 1000
_BEGUN_AND_OVER = ("EvaluationStarted", "EvaluationCompleted")
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


def check(row: Row, *, checked: bool) -> None:
    """Compare a row with its checksum; `checked`: an earlier one has one, so this one must.

    Raises:
        ValueError: It is damaged; the text says how.
    """
    if row[7] is None:
        if checked:
            raise ValueError("its checksum is missing")
    elif row[7] != checksum(row[:7]):
        raise ValueError("its checksum is wrong")


def recorded(row: Row, *, checked: bool) -> Recorded:
    """Read a row; `checked` as in `check`.

    Raises:
        ValueError: It is damaged; the text says how.
        KeyError: Its type is one that this version does not know.
    """
    check(row, checked=checked)
    seq, at, run, stream, version, type_name, data, _ = row
    try:
        when, event = datetime.fromisoformat(at), decode(type_name, data)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(str(error)) from error
    return Recorded(seq, when, run, stream, version, event)


def log_file(state_dir: Path) -> Path:
    """Return the log's file in a state directory."""
    return state_dir / "clipwatch.db"


def _now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """One log file; not to be shared between threads, and closed by `with`.

    Args:
        path: The file; made with its folder unless `read_only`, and private. It must lie on a
            local disk: SQLite's write-ahead log does not work on NFS or Lustre. One of an older
            format is brought up to date unless `read_only`.
        read_only: Open for reading beside a running daemon.
        clock: Gives the time of appended events.

    Raises:
        JournalError: The file cannot be opened, belongs to another program, or was written by a
            newer clipwatch.
        LogDamaged: It is not what was written; nothing was changed in it.
        DiskFull: There is no space for it.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, clock: Callable[[], datetime] = _now
    ) -> None:
        self.path = path
        self._clock = clock
        self._inode = 0
        self._wal = wal.beside(path)
        with self._named():
            logfile.check(path)
            if read_only:
                self._db = logfile.connect_read_only(path)
            else:
                logfile.create(path)
                self._refuse_damaged()
                self._db = sqlite3.connect(path)
        try:
            with self._named():
                self._open(read_only=read_only)
        except JournalError:
            self._db.close()
            raise

    def _refuse_damaged(self) -> None:
        """Writing into a damaged file would destroy what can still be read.

        It is looked at by a connection that cannot write: others merge the -wal as they close.
        """
        if (lost := wal.lost_commits(self.path)) > 1:
            raise LogDamaged(self.path, f"{lost} commits in its -wal stand behind a damaged place")
        with closing(logfile.connect_read_only(self.path)) as db:
            if identify(db, self.path) == 0:
                return
            if (found := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise LogDamaged(self.path, " ".join(found.split()))

    def _open(self, *, read_only: bool) -> None:
        self._db.isolation_level = None
        self._db.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        if read_only:
            identify(self._db, self.path)
            return
        self._use_wal()
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            bring_up_to_date(self._db, identify(self._db, self.path))
        self._inode = self.path.stat().st_ino

    def _use_wal(self) -> None:
        """Switch to the write-ahead log; SQLite does not wait if another does the same just now."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except logfile.FAILURES as error:
            raise logfile.explain(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def append(self, run: str, stream: str, expected: int, events: Sequence[Event]) -> int:
        """Add events to a stream, all or none, durably; return the stream's new version.

        Args:
            run: The run they belong to.
            stream: The stream, whose name is unique over all runs.
            expected: The stream's version that the decision was made on; 0 for a new stream.
            events: In order; none is allowed.

        Raises:
            Conflict: The stream has another version.
            DiskFull: There is no space for them; nothing was added, it may be tried again.
            JournalError: The file cannot be written; nothing was added.
        """
        if not events:
            return expected
        now = self._clock().astimezone(UTC).isoformat()
        with self._transaction():
            self._format()
            version = self.version(stream)
            if version != expected:
                raise Conflict(f"{stream}: version is {version}, not {expected}")
            last = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            contents = [
                (last + n, now, run, stream, expected + n, *encode(event))
                for n, event in enumerate(events, 1)
            ]
            self._db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*content, checksum(content)) for content in contents],
            )
            self._refuse_replaced()
        return expected + len(events)

    def _refuse_replaced(self) -> None:
        """A file that was deleted can still be written, and nobody will ever read it."""
        # no stat of the -wal: on some file systems the next write to it would then be slower
        try:
            same = self.path.stat().st_ino == self._inode and os.access(self._wal, os.F_OK)
        except FileNotFoundError:
            same = False
        if not same:
            raise JournalError(f"{self.path}: was deleted or replaced", fix="start clipwatch again")

    def version(self, stream: str) -> int:
        """Return how many events the stream has."""
        with self._named():
            row = self._db.execute(
                "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?", (stream,)
            ).fetchone()
        return int(row[0])

    def read(
        self, after: int = 0, *, stream: str | None = None, brief: bool = False
    ) -> Iterator[Recorded]:
        """Yield events in order, and end at the present end.

        The log is read in pages, so a slow consumer pins nothing and blocks nobody.

        Args:
            after: Pass over so many.
            stream: Read only this one.
            brief: Check, but do not yield, the images of evaluations that are completed.

        Raises:
            LogDamaged: An event cannot be read or is missing; it says which, and all before it
                were yielded.
            JournalError: An event is of a type that only a newer clipwatch knows.
        """
        place, name = (0, "") if stream is None else (4, f" of {stream}")
        known, checked, limit = 0, False, PAGE
        completed = self._completed() if brief and self._format() else frozenset()
        while True:
            with self._named():
                found = self._format()
                if found == 0:  # its writer is only about to make it
                    return
                if after == 0 and stream is None:
                    # counted in the index: it shows what a bad page hides at the end of the table
                    known = int(self._db.execute("SELECT count(*) FROM events").fetchone()[0])
            try:
                rows = self._rows(found, after, stream, limit)
            except LogDamaged as damage:
                if limit == 1:
                    what = f"event {after + 1}{name}: {damage.what}"
                    raise LogDamaged(self.path, what) from damage
                limit = 1  # to come to the very event
                continue
            for row in rows:
                if row[place] != after + 1:
                    raise LogDamaged(self.path, f"event {after + 1}{name} is missing")
                images = row[5] == "ImagesScored" and row[3] in completed
                read = self._read(row, checked=checked, passed=images)
                if read is not None:
                    yield read
                after += 1
                checked = checked or row[7] is not None
            if len(rows) < limit:
                break
        if after < known:
            raise LogDamaged(self.path, f"events {after + 1} to {known} are missing")

    def landmarks(self) -> list[Recorded]:
        """Return all events in order, but for the images of evaluations that are completed.

        They mean the same state, and are read many times as fast. What is left out is counted but
        not checked: `read` does that.

        Raises:
            LogDamaged: An event cannot be read, or some are missing.
            JournalError: An event is of a type that only a newer clipwatch knows.
        """
        with self._named():
            found = self._format()
            if found == 0:
                return []
            count, last = self._db.execute("SELECT count(*), max(seq) FROM events").fetchone()
            if count != (last or 0):
                raise LogDamaged(self.path, f"{last - count} events are missing")
            rows = self._select(found, "type <> 'ImagesScored'", {})
            begun, over = ({row[3] for row in rows if row[5] == kind} for kind in _BEGUN_AND_OVER)
            for stream in begun - over:
                images = "stream = :stream AND type = 'ImagesScored'"
                rows += self._select(found, images, {"stream": stream})
        read = (self._read(row, checked=False) for row in sorted(rows))
        return [event for event in read if event is not None]

    def _read(self, row: Row, *, checked: bool, passed: bool = False) -> Recorded | None:
        """Return a row's event; None, but checked all the same, if it is to be passed over."""
        try:
            if passed:
                check(row, checked=checked)
                return None
            return recorded(row, checked=checked)
        except KeyError as unknown:
            raise self._unknown(row) from unknown
        except ValueError as damage:
            raise LogDamaged(self.path, f"event {row[0]} is damaged: {damage}") from damage

    def _completed(self) -> frozenset[str]:
        """Return the streams of the evaluations that are completed."""
        query = "SELECT stream FROM events WHERE type = 'EvaluationCompleted'"
        with self._named():
            return frozenset(stream for (stream,) in self._db.execute(query))

    def _rows(self, found: int, after: int, stream: str | None, limit: int) -> list[Row]:
        place, only = ("seq", "") if stream is None else ("version", "stream = :stream AND")
        which = f"{only} {place} > :after ORDER BY {place} LIMIT {limit}"
        with self._named():
            return self._select(found, which, {"after": after, "stream": stream})

    def _select(self, found: int, which: str, values: dict[str, object]) -> list[Row]:
        crc = "crc" if found > 1 else "NULL"
        query = (
            f"SELECT seq, time, run, stream, version, type, data, {crc} FROM events "  # noqa: S608 - constant parts
            f"WHERE {which}"
        )
        return self._db.execute(query, values).fetchall()

    def _unknown(self, row: Row) -> JournalError:
        return JournalError(
            f"{self.path}: event {row[0]} is a {row[5]}, which this version does not know",
            fix="upgrade clipwatch",
        )

    def _format(self) -> int:
        """Return the file's format, which another process may just have raised.

        Raises:
            JournalError: To one that this version does not know.
        """
        found = stored_format(self._db)
        return found if found <= FORMAT else identify(self._db, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
