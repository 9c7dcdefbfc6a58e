"""What is wrong with a log, and everything in it that can still be read.

Nothing here writes to the log or its -wal: whatever SQLite might mend, it mends in a copy. That is
in memory, for a file would outlive a command that is killed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import cast

from clipwatch.domain.fold import evolve
from clipwatch.domain.state import State
from clipwatch.journal import logfile, snapshot, wal
from clipwatch.journal.logformat import COLUMNS, EventRow, LogDamaged, identify
from clipwatch.journal.reading import Recorded, recorded
from clipwatch.journal.repair import pages
from clipwatch.journal.store import Journal
from clipwatch.kit.errors import JournalError, NoDescriptor

MOST_FAULTS = 20
"""So many faults of the structure are told: one bad page is enough for hundreds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a log: `where` names an event, several, or a part of the file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


Found = Recorded | Fault


def readable(path: Path) -> Iterator[Found]:
    """Yield what a log holds, in order, and a fault for each thing in it that cannot be read.

    Raises:
        JournalError: It cannot be opened, is another program's, or was written by a newer
            clipwatch.
    """
    last = 0
    try:
        with Journal(path, read_only=True) as journal:
            for event in journal.read():
                yield event
                last = event.seq
    except LogDamaged:
        for found in verify(path):
            if isinstance(found, Fault) or found.seq > last:
                yield found


def verify(path: Path) -> Iterator[Found]:
    """Yield everything that can be read from a log, in order, and everything wrong with it.

    Looked at are SQLite's structure, the checksums, gaps, and whether each event can follow from
    those before it. A daemon may be writing meanwhile.

    Raises:
        JournalError: It is no file that we may read.
    """
    try:
        copy, faults = _copy(path)
    except OSError as error:
        raise logfile.explain(path, error) from error
    yield from faults
    faults, count = _structure(copy, path)
    yield from faults
    yield from _consistent(_events(copy, count))


def _copy(path: Path) -> tuple[bytes, list[Fault]]:
    """Return the log with what stands in its -wal, and why that needed our own hands, if it did."""
    faults = []
    try:
        logfile.check(path)
        source = logfile.connect_read_only(path)
        with closing(source), closing(sqlite3.connect(":memory:")) as target:
            source.backup(target)
            copy = target.serialize()
    except (*logfile.FAILURES, LogDamaged) as error:
        damage = error if isinstance(error, LogDamaged) else logfile.explain(path, error)
        if isinstance(damage, NoDescriptor):
            raise damage from error
        if isinstance(damage, LogDamaged):
            faults.append(Fault("file", damage.what))
        copy = snapshot.merged(path.read_bytes(), snapshot.pending(path))
    if lost := wal.lost_commits(path):
        cut = "its last write is not whole: a power cut interrupted it, or it is damaged"
        what = cut if lost == 1 else f"damaged: {lost} commits stand behind the bad place"
        faults.append(Fault(wal.beside(path).name, what))
    return copy, faults


def _structure(copy: bytes, path: Path) -> tuple[list[Fault], int]:
    """Return what SQLite finds wrong, and how many events there should be as far as it knows."""
    faults = list(_cut(copy))
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            if copy:
                db.deserialize(snapshot.without_wal(copy))
            for (text,) in db.execute(f"PRAGMA integrity_check({MOST_FAULTS})"):
                lines = [line for line in text.splitlines() if not line.startswith("***")]
                faults += [Fault("structure", line) for line in lines if line != "ok"]
            if identify(db, path) == 0:
                return [*faults, Fault("file", "there is no log in it")], 0
            return faults, int(db.execute("SELECT count(*) FROM events").fetchone()[0])
    except (*logfile.FAILURES, JournalError) as error:
        told = error if isinstance(error, JournalError) else logfile.explain(path, error)
        what = told.what if isinstance(told, LogDamaged) else str(told)
        return [*faults, Fault("file", what)], 0


def _cut(copy: bytes) -> Iterator[Fault]:
    should_be = int.from_bytes(copy[28:32], "big") * pages.page_size(copy)
    if copy.startswith(b"SQLite format 3") and len(copy) < should_be:
        yield Fault("file", f"it ends at byte {len(copy)} of {should_be}")


def _events(data: bytes, count: int) -> Iterator[Found]:
    size = pages.page_size(data)
    last, checked = 0, False
    for seq, cells in groupby(sorted(pages.cells(data, size)), key=itemgetter(0)):
        good: dict[EventRow, Recorded] = {}
        bad: list[str] = []
        for _, cell in cells:
            try:
                row = _row(seq, pages.record(data, size, cell))
                if row is not None:
                    good[row] = recorded(row, checked=checked)
            except KeyError as error:
                bad.append(f"is a {error.args[0]}, which this version does not know")
            except ValueError as error:
                bad.append(f"page {cell // size + 1}: {error}")
        if len(good) == 1:
            [(row, event)] = good.items()
            if seq > last + 1:
                yield _missing(last + 1, seq - 1)
            yield event
            last, checked = seq, checked or row[-1] is not None
        elif good or bad:
            yield Fault(f"event {seq}", "stands there twice" if good else bad[0])
            last = seq if seq == last + 1 else last
    if last < count:
        yield _missing(last + 1, count)


def _row(seq: int, values: tuple[pages.Value, ...]) -> EventRow | None:
    """Return the row of an event, None for one of another table."""
    if values[:1] != (None,) or len(values) not in (len(COLUMNS) - 1, len(COLUMNS)):
        return None
    return cast(EventRow, (seq, *values[1:], None)[: len(COLUMNS)])


def _missing(first: int, last: int) -> Fault:
    return Fault(f"event {first}" if first == last else f"events {first} to {last}", "missing")


def _consistent(found: Iterable[Found]) -> Iterator[Found]:
    """Add a fault for the first event that cannot follow; behind any fault none is looked for."""
    state: State = {}
    versions: dict[str, int] = {}
    items = iter(found)
    for item in items:
        yield item
        if isinstance(item, Fault):
            break
        try:
            if item.version != versions.get(item.stream, 0) + 1:
                raise KeyError(f"number {item.version} of {item.stream}")
            state = evolve(state, [(item.run, item.event, item.time)])
        except (KeyError, TypeError) as error:
            yield Fault(f"event {item.seq}", f"cannot follow from those before it: {error}")
            break
        versions[item.stream] = item.version
    yield from items
