"""A log as it is read: checked row by row, in pages, beside whoever writes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from clipwatch.domain.events import Event
from clipwatch.domain.written import decode
from clipwatch.journal import logfile
from clipwatch.journal.logformat import (
    FORMAT,
    LANDMARKS,
    EventRow,
    LogDamaged,
    checksum,
    has_index,
    identify,
    stored_format,
)
from clipwatch.kit.errors import JournalError

PAGE = 1000
_BEGUN_AND_OVER = ("EvaluationStarted", "EvaluationCompleted")
_OF_IMAGES = ("ImagesScored", "ImagesRescored")  # nearly all of a log; the latter mean no state
_NO_END: Final = (1 << 63) - 1  # no event has a higher number


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


class Rows:
    """The rows of the log that a connection has open.

    Args:
        path: Its file, which errors name.
        db: The connection; whoever opened it closes it.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

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

    def last(self) -> int:
        """Return the number of the last event, 0 for none."""
        with self._named():
            if self._format() == 0:
                return 0
            return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def types_around(self, stream: str, version: int) -> tuple[str, str]:
        """Return the types of the events before and after one in its stream; "" for none."""
        query = "SELECT version, type FROM events WHERE stream = ? AND version IN (?, ?)"
        with self._named():
            found = dict(self._db.execute(query, (stream, version - 1, version + 1)).fetchall())
        return found.get(version - 1, ""), found.get(version + 1, "")

    def pages(self, after: int = 0, size: int = PAGE) -> Iterator[list[EventRow]]:
        """Yield the rows as they stand, in order, each checked; so many at once.

        Raises:
            LogDamaged: One is damaged or missing; all pages before its own were yielded.
        """
        while (found := self.written_as()) and (rows := self._rows(found, after, None, size)):
            for row in rows:
                after += 1
                if row[0] != after:
                    raise LogDamaged(self.path, f"event {after} is missing")
                self._read(row, checked=False, passed=True)
            yield rows

    def completed(self) -> frozenset[str]:
        """Return the streams of the evaluations that are completed."""
        which = self._indexed(f"{LANDMARKS} AND type = 'EvaluationCompleted'")
        with self._named():
            if self._format() == 0:
                return frozenset()
            found = self._db.execute(f"SELECT stream FROM events WHERE {which}")  # noqa: S608 - constant parts
            return frozenset(stream for (stream,) in found)

    def written_as(self) -> int:
        """Return the file's format, 0 of one in which there is no log."""
        with self._named():
            return self._format()

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

    def _indexed(self, which: str) -> str:
        """Return the condition for rows that are no images, looked up in their index if it is."""
        with self._named():
            by = "INDEXED BY events_of_runs" if has_index(self._db) else ""
        return f"seq IN (SELECT seq FROM events {by} WHERE {which})"  # noqa: S608 - constant parts

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


class Reader(Rows):
    """Reads the log that a connection has open, as events; as Rows."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)
        self.known = 0
        """Up to this event all were checked: by us, or before the last normal end."""

    def read(
        self,
        after: int = 0,
        *,
        stream: str | None = None,
        brief: bool = False,
        only: AbstractSet[str] | None = None,
    ) -> Iterator[Recorded]:
        """Yield events in order, and end at the present end.

        The log is read in pages, so a slow consumer pins nothing and blocks nobody.

        Args:
            after: Pass over so many.
            stream: Read only this one.
            brief: Do not yield the images of evaluations that are completed; check them, unless
                they are `known` to be sound.
            only: Yield what is of these runs, the known one run after the other; None for all.
                What is of others is checked in the same way.

        Raises:
            LogDamaged: An event cannot be read or is missing; it says which, and all before it
                were yielded.
            JournalError: An event is of a type that only a newer clipwatch knows.
        """
        place, name = (0, "") if stream is None else (4, f" of {stream}")
        whole = stream is None and after <= self.known
        if brief and after == 0 and self.known:
            yield from self._known_landmarks(only)
            after = self.known
        counted, checked, limit = 0, False, PAGE
        completed = self.completed() if brief else frozenset()
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
                elsewhere = only is not None and row[2] not in only
                read = self._read(row, checked=checked, passed=images or elsewhere)
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

    def _known_landmarks(self, only: AbstractSet[str] | None) -> Iterator[Recorded]:
        """Yield what `landmarks` gives of the events known to be sound, in pages."""
        for run in only or ():
            yield from self.landmarks(run, self.known)
        if only is not None:
            return
        values = {"after": 0, "known": self.known, "page": PAGE, "streams": self._unfinished()}
        few = (
            f"seq > :after AND seq <= :known AND ({LANDMARKS} OR "  # noqa: S608 - constant parts
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

    def landmarks(self, run: str = "", last: int = _NO_END) -> list[Recorded]:
        """Return all events in order, but for the images of evaluations that are completed.

        They mean the same state, and are read many times as fast. What is left out is counted but
        not checked: `read` does that.

        Args:
            run: Only of this one; "" for all. Of one nobody counts what lacks.
            last: Only up to this event.

        Raises:
            LogDamaged: An event cannot be read, or some are missing.
            JournalError: An event is of a type that only a newer clipwatch knows.
        """
        which = f"run = :run AND {LANDMARKS}" if run else LANDMARKS
        with self._named(), self._db:
            self._db.execute("BEGIN")  # all of it is of one moment, whoever writes meanwhile
            found = self._format()
            if found == 0:
                return []
            if not run:
                count, end = self._db.execute("SELECT count(*), max(seq) FROM events").fetchone()
                if count != (end or 0):
                    raise LogDamaged(self.path, f"{end - count} events are missing")
            values: dict[str, object] = {"run": run, "last": last}
            rows = self._select(found, f"{self._indexed(which)} AND +seq <= :last", values)
            begun, over = ({row[3] for row in rows if row[5] == kind} for kind in _BEGUN_AND_OVER)
            images = "stream = :stream AND type = 'ImagesScored' AND +seq <= :last"
            for stream in begun - over:
                rows += self._select(found, images, {**values, "stream": stream})
        read = (self._read(row, checked=False) for row in sorted(rows))
        return [event for event in read if event is not None]

    def of_types(self, *types: str) -> list[Recorded]:
        """Return all events of these types in order; none of images.

        Raises:
            LogDamaged: One cannot be read.
        """
        among = f"{LANDMARKS} AND type IN (SELECT value FROM json_each(:types))"  # noqa: S608 - as above
        with self._named():
            if (found := self._format()) == 0:
                return []
            values: dict[str, object] = {"types": json.dumps(types)}
            rows = self._select(found, f"{self._indexed(among)} ORDER BY seq", values)
        read = (self._read(row, checked=False) for row in rows)
        return [event for event in read if event is not None]

    def _unfinished(self) -> str:
        """Return the streams of the known evaluations that began and are not completed, as JSON."""
        query = (
            "SELECT json_group_array(stream) FROM (SELECT stream FROM events WHERE seq <= ? AND "
            "type IN (?, ?) GROUP BY stream HAVING max(type = ?) = 0)"
        )
        with self._named():
            values = (self.known, *_BEGUN_AND_OVER, _BEGUN_AND_OVER[1])
            return str(self._db.execute(query, values).fetchone()[0])


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Tell failures of SQLite and of the disk in one line."""
    try:
        yield
    except logfile.FAILURES as error:
        raise logfile.explain(path, error) from error
