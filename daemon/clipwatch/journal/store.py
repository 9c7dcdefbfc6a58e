"""The append-only log, in SQLite.

An event exists once `append` returned, or once anybody can read it: after a crash fold the log and
decide again, never repeat the last append.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from clipwatch.domain.events import Event
from clipwatch.domain.written import encode
from clipwatch.journal import checked, logfile, wal
from clipwatch.journal.checked import Mark
from clipwatch.journal.logformat import (
    Content,
    EventRow,
    LogDamaged,
    bring_up_to_date,
    checksum,
    identify,
)
from clipwatch.journal.reading import Reader, named
from clipwatch.kit.errors import Conflict, JournalError, LogLocked

BUSY_SECONDS = 10.0

CACHE_KIB = 256
"""Memory for pages: who appends needs few of them, and SQLite would fill 2 MB as the log grows."""


def log_file(state_dir: Path) -> Path:
    """Return the log's file in a state directory."""
    return state_dir / "clipwatch.db"


def _now() -> datetime:
    return datetime.now(UTC)


def _refuse_damaged(path: Path, now: datetime) -> Mark | None:
    """Writing into a damaged file would destroy what can still be read; return what was known.

    It is looked at by a connection that cannot write: others merge the -wal as they close.
    """
    if (lost := wal.lost_commits(path)) > 1:
        raise LogDamaged(path, f"{lost} commits in its -wal stand behind a damaged place")
    with closing(logfile.connect_read_only(path)) as db:
        if identify(db, path) == 0:
            return None
        if mark := checked.trusted(path, now):
            return mark
        if found := checked.fault(db):
            raise LogDamaged(path, found)
    return None


class Journal(Reader):
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
        LogLocked: Another program keeps it locked, or just put a new file in its place.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, clock: Callable[[], datetime] = _now
    ) -> None:
        self._clock = clock
        self._inode = 0
        self._wal = wal.beside(path)
        self._mark: Mark | None = None
        self._whole = clock()
        with named(path):
            logfile.check(path)
            if read_only:
                db = logfile.connect_read_only(path)
            else:
                logfile.create(path)
                self._inode = path.stat().st_ino  # before it is opened: it may be replaced
                self._mark = _refuse_damaged(path, self._whole)
                db = sqlite3.connect(path)
        super().__init__(path, db)
        if self._mark is not None:
            self.known, self._whole = self._mark.seq, self._mark.whole
        try:
            with self._named():
                self._open(read_only=read_only)
        except JournalError:
            self._db.close()
            raise

    def _open(self, *, read_only: bool) -> None:
        self._db.isolation_level = None
        self._db.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        if read_only:
            identify(self._db, self.path)
            return
        self._use_wal()
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        with self._transaction():
            bring_up_to_date(self._db, identify(self._db, self.path))
        if self.path.stat().st_ino != self._inode:  # compacted as we opened it
            raise LogLocked(f"{self.path}: is just written anew", fix="try again in a moment")

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

    def append(
        self,
        run: str,
        stream: str,
        expected: int,
        events: Sequence[Event],
        times: Sequence[datetime] = (),
    ) -> int:
        """Add events to a stream, all or none, durably; return the stream's new version.

        Args:
            run: The run they belong to.
            stream: The stream, whose name is unique over all runs.
            expected: The stream's version that the decision was made on; 0 for a new stream.
            events: In order; none is allowed.
            times: When each happened, of those that another log told; () for now.

        Raises:
            Conflict: The stream has another version.
            DiskFull: There is no space for them; nothing was added, it may be tried again.
            LogLocked: Another program keeps it locked; the same.
            JournalError: The file cannot be written; nothing was added.
        """
        if not events:
            return expected
        told = times or [self._clock()] * len(events)
        when = [it.astimezone(UTC).isoformat() for it in told]
        with self._transaction():
            self._format()
            version = self.version(stream)
            if version != expected:
                raise Conflict(f"{stream}: version is {version}, not {expected}")
            last = self.last()
            self._insert(
                (last + n, time, run, stream, expected + n, *encode(event))
                for n, (time, event) in enumerate(zip(when, events, strict=True), 1)
            )
        return expected + len(events)

    def copy(self, rows: Sequence[EventRow], found: int) -> None:
        """Add rows of another log as they stand there, all or none, durably.

        Args:
            rows: In order; the first follows on the last one here.
            found: The format of that log.

        Raises:
            Conflict: It does not: somebody else adds to this log, too.
            DiskFull, LogLocked, JournalError: As `append`.
        """
        with self._transaction():
            if rows and rows[0][0] != self.last() + 1:
                raise Conflict(f"{self.path}: another program writes to it")
            self._insert(row[:7] for row in rows)
            if found > self._format():
                self._db.execute(f"PRAGMA user_version = {found}")

    def _insert(self, contents: Iterable[Content]) -> None:
        rows = [(*content, checksum(content)) for content in contents]
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._refuse_replaced()

    def news(self) -> int:
        """Return the number of the last event that is more than a batch of images, 0 for none."""
        with self._named():
            if self._format() == 0:
                return 0
            row = self._db.execute(
                "SELECT seq FROM events WHERE type <> 'ImagesScored' ORDER BY seq DESC LIMIT 1"
            ).fetchone()
        return int(row[0]) if row else 0

    def _refuse_replaced(self) -> None:
        """A file that was deleted can still be written, and nobody will ever read it."""
        # no stat of the -wal: on some file systems the next write to it would then be slower
        try:
            same = self.path.stat().st_ino == self._inode and os.access(self._wal, os.F_OK)
        except FileNotFoundError:
            same = False
        if not same:
            raise JournalError(f"{self.path}: was deleted or replaced", fix="start clipwatch again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self._db.close()
        new = self._mark is None or self.known > self._mark.seq
        if kind is None and new and self._inode and self.known:
            checked.leave(self.path, self.known, self._whole)
