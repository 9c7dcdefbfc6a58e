"""A log as it is read: checked row by row, in pages, beside whoever writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from clipwatch.domain.events import Event
from clipwatch.domain.written import decode
from clipwatch.journal import logfile
from clipwatch.journal.logformat import (
    FORMAT,
    EventRow,
    LogDamaged,
    checksum,
    identify,
    stored_format,
)
from clipwatch.kit.errors import JournalError

PAGE = 1000
_BEGUN_AND_OVER = ("EvaluationStarted", "EvaluationCompleted")
_OF_IMAGES = ("ImagesScored", "ImagesRescored")  # nearly all of a log; the latter mean no state


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place: `seq` in the whole log, `version` in its stream, both from 1."""

    seq: int
    time: datetime
    run: str
    stream: str
    version: int
    event: Event


def check(row: EventRow, *, checked: bool) -> None:
    """Compare a row with its checksum; `checked`: an earlier one has one, so this one must.

    Raises:
        ValueError: It is damaged; the text says how.
    """
    if row[7] is None:
        if checked:
            raise ValueError("its checksum is missing")
    elif row[7] != checksum(row[:7]):
        raise ValueError("its checksum is wrong")


def recorded(row: EventRow, *, checked: bool) -> Recorded:
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


class Reader:
    """Reads the log that a connection has open.

    Args:
        path: Its file, which errors name.
        db: The connection; whoever opened it closes it.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self.known = 0
        """Up to this event all were checked: by us, or before the last normal end."""

    def version(self, stream: str) -> int:
        """Return how many events the stream has."""
        with self._named():
            row = self._db.execute(
                "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?", (stream,)
            ).fetchone()
        return int(row[0])

    def streams(self, beginning: str) -> list[str]:
        """Return the streams whose names begin so, in order; looked up in the index."""
        end = beginning[:-1] + chr(ord(beginning[-1]) + 1)
        with self._named():
            if self._format() == 0:
                return []
            found = self._db.execute(
                "SELECT DISTINCT stream FROM events WHERE stream >= ? AND stream < ?",
                (beginning, end),
            ).fetchall()
        return [stream for (stream,) in found]

    def read(
        self, after: int = 0, *, stream: str | None = None, brief: bool = False
    ) -> Iterator[Recorded]:
        """Yield events in order, and end at the present end.

        The log is read in pages, so a slow consumer pins nothing and blocks nobody.

        Args:
            after: Pass over so many.
            stream: Read only this one.
            brief: Do not yield the images of evaluations that are completed; check them, unless
                they are `known` to be sound.

        Raises:
            LogDamaged: An event cannot be read or is missing; it says which, and all before it
                were yielded.
            JournalError: An event is of a type that only a newer clipwatch knows.
        """
        place, name = (0, "") if stream is None else (4, f" of {stream}")
        whole = stream is None and after <= self.known
        if brief and after == 0 and self.known:
            yield from self._known_landmarks()
            after = self.known
        counted, checked, limit = 0, False, PAGE
        completed = self._completed() if brief and self._format() else frozenset()
        while True:
            with self._named():
                found = self._format()
                if found == 0:  # its writer is only about to make it
                    return
                if after == 0 and stream is None:
                    # counted in the index: it shows what a bad page hides at the end of the table
                    counted = int(self._db.execute("SELECT count(*) FROM events").fetchone()[0])
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
                images = row[5] in _OF_IMAGES and row[3] in completed
                read = self._read(row, checked=checked, passed=images)
                if read is not None:
                    yield read
                after += 1
                checked = checked or row[7] is not None
            if len(rows) < limit:
                break
        if after < counted:
            raise LogDamaged(self.path, f"events {after + 1} to {counted} are missing")
        if whole:
            self.known = max(after, self.known)

    def _known_landmarks(self) -> Iterator[Recorded]:
        """Yield what `landmarks` gives of the events known to be sound, in pages."""
        values = {"after": 0, "known": self.known, "page": PAGE, "streams": self._unfinished()}
        few = (
            "seq > :after AND seq <= :known AND (type NOT IN ('ImagesScored', 'ImagesRescored') OR "
            "stream IN (SELECT value FROM json_each(:streams))) ORDER BY seq LIMIT :page"
        )
        while True:
            with self._named():
                rows = self._select(self._format(), few, values)
            for row in rows:
                if (read := self._read(row, checked=False)) is not None:
                    yield read
            if len(rows) < PAGE:
                return
            values["after"] = rows[-1][0]

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
            rows = self._select(found, "type NOT IN ('ImagesScored', 'ImagesRescored')", {})
            begun, over = ({row[3] for row in rows if row[5] == kind} for kind in _BEGUN_AND_OVER)
            for stream in begun - over:
                images = "stream = :stream AND type = 'ImagesScored'"
                rows += self._select(found, images, {"stream": stream})
        read = (self._read(row, checked=False) for row in sorted(rows))
        return [event for event in read if event is not None]

    def _read(self, row: EventRow, *, checked: bool, passed: bool = False) -> Recorded | None:
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

    def _unfinished(self) -> str:
        """Return the streams of the known evaluations that began and are not completed, as JSON."""
        query = (
            "SELECT json_group_array(stream) FROM (SELECT stream FROM events WHERE seq <= ? AND "
            "type IN (?, ?) GROUP BY stream HAVING max(type = ?) = 0)"
        )
        with self._named():
            values = (self.known, *_BEGUN_AND_OVER, _BEGUN_AND_OVER[1])
            return str(self._db.execute(query, values).fetchone()[0])

    def _rows(self, found: int, after: int, stream: str | None, limit: int) -> list[EventRow]:
        place, only = ("seq", "") if stream is None else ("version", "stream = :stream AND")
        which = f"{only} {place} > :after ORDER BY {place} LIMIT {limit}"
        with self._named():
            return self._select(found, which, {"after": after, "stream": stream})

    def _select(self, found: int, which: str, values: dict[str, object]) -> list[EventRow]:
        crc = "crc" if found > 1 else "NULL"
        query = (
            f"SELECT seq, time, run, stream, version, type, data, {crc} FROM events "  # noqa: S608 - constant parts
            f"WHERE {which}"
        )
        return self._db.execute(query, values).fetchall()

    def _unknown(self, row: EventRow) -> JournalError:
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

    def _named(self) -> AbstractContextManager[None]:
        return named(self.path)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Tell failures of SQLite and of the disk in one line."""
    try:
        yield
    except logfile.FAILURES as error:
        raise logfile.explain(path, error) from error
