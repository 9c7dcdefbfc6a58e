"""A log written anew, in less room: no event is left out, but batches of images become one.

The new file is written beside the old one, compared with it, and takes its place by one rename: a
kill leaves the one or the other, whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from clipwatch.domain.events import ImagesScored
from clipwatch.domain.further import ImagesRescored
from clipwatch.domain.packed import FIELDS, MOST, packed, unpacked
from clipwatch.journal import checked
from clipwatch.journal.logformat import PACKED, EventRow, checksum
from clipwatch.journal.reading import PAGE, Reader, Recorded, named
from clipwatch.journal.store import Journal
from clipwatch.kit.errors import JournalError, LogLocked
from clipwatch.kit.filesystems import sync_folder

_WAIT_MILLISECONDS: Final = 2000  # for whoever only reads a moment
_APART: Final = "EvaluationImported"
"""It names the part of which the images stand right behind it: those stay by themselves."""

Progress = Callable[[str], None]
"""Told what is done, and with how many events of how many."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a log was and what it is, or would be: its events, and the bytes that they take."""

    events: tuple[int, int]
    size: tuple[int, int]
    backup: Path | None = None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.size[1] < self.size[0]


def estimate(path: Path, say: Progress) -> Compacted:
    """Say what compacting would do; nothing is written or locked.

    Its sizes are those of the events alone, without what SQLite adds.

    Raises:
        JournalError: The log cannot be read.
    """
    with Journal(path, read_only=True) as old:
        total, before, after = old.last(), [0, 0], [0, 0]
        for row in _compacted(old, _counting(old.pages(), before)):
            _count([row], after)
            say(_so_far("reading", before[0], total))
    return Compacted((before[0], after[0]), (before[1], after[1]))


def compact(path: Path, backup: Path | None, say: Progress) -> Compacted:
    """Write a log anew in less room, and put that in its place.

    Args:
        path: Its file, which nobody else may have open for writing.
        backup: Under which name the old one stays, None for none.
        say: Told how far it is.

    Raises:
        LogLocked: Another program has it open.
        LogDamaged: It is not what was written; it stays as it is.
        JournalError: It cannot be written anew; it stays as it is.
    """
    now, new = datetime.now().astimezone(), path.with_name(f".{path.name}.new")
    with _alone(path, say) as old, named(path):
        total, before, after = old.last(), [0, 0], [0, 0]
        try:
            _remove(new)  # of a process that was killed
            with Journal(new) as fresh:
                rows = _compacted(old, _counting(old.pages(), before))
                while page := list(islice(rows, PAGE)):
                    fresh.copy(page, PACKED)
                    _count(page, after)
                    say(_so_far("writing", before[0], total))
            _same(old, new, say)
            size = path.stat().st_size, new.stat().st_size
            if before == after or size[1] >= size[0]:
                found = Compacted((total, total), (size[0], size[0]))
            else:
                found = Compacted((total, after[0]), size, backup)
                if backup is not None:
                    _keep(path, backup)
                new.replace(path)
                sync_folder(path.parent)
        finally:
            _remove(new)
    checked.leave(path, found.events[1], now)
    return found


def _keep(path: Path, backup: Path) -> None:
    """Give a log a second name.

    Raises:
        JournalError: It cannot have one there.
    """
    try:
        os.link(path, backup)
    except OSError as error:
        told = f"{backup}: the log as it was cannot be kept ({error.strerror})"
        raise JournalError(told, fix="copy it yourself, and compact with --no-backup") from error


@contextmanager
def _alone(path: Path, say: Progress) -> Iterator[Reader]:
    """Read a log that nobody else has open, and into which nobody writes meanwhile.

    Raises:
        LogLocked: Another program has it open.
        LogDamaged: It is not what was written.
    """
    with Journal(path, read_only=True) as log:
        total = log.last()
        for page in log.pages():  # before anything is changed
            say(_so_far("checking", page[-1][0], total))
    with Journal(path):
        pass  # which brings it up to date
    with named(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}")
        try:
            # only the last connection may leave the write-ahead log
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("BEGIN IMMEDIATE")
            mode = db.execute("PRAGMA journal_mode").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            mode = "wal"
        if mode != "delete":
            raise LogLocked(f"{path}: another program has it open", fix="stop that one first")
        yield Reader(path, db)


@dataclass(slots=True)
class _Batch:
    """Images of one evaluation that stand together: what is said of all, and their rows."""

    told: dict[str, Any]
    rows: list[dict[str, Any]]

    def takes(self, other: _Batch) -> bool:
        """Whether another one can be joined to it without losing anything."""
        alike = not (self.rows and other.rows) or self.rows[0].keys() == other.rows[0].keys()
        few = len(self.rows) + len(other.rows) <= MOST
        return alike and few and self.told == other.told


def _compacted(old: Reader, pages: Iterable[list[EventRow]]) -> Iterator[EventRow]:
    """Yield a log's rows as those of a smaller one: numbered anew, batches joined and packed.

    Only of evaluations that are completed: what is under way stays as it is.
    """
    finished, versions = old.completed(), dict[str, int]()
    held: dict[str, tuple[EventRow, _Batch]] = {}
    seq = 0

    def numbered(row: EventRow, data: str) -> EventRow:
        nonlocal seq
        seq, stream = seq + 1, row[3]
        versions[stream] = versions.get(stream, 0) + 1
        content = (seq, *row[1:4], versions[stream], row[5], data)
        return (*content, checksum(content))

    for page in pages:
        for row in page:
            _, _, _, stream, version, kind, data, _ = row
            if kind not in FIELDS or stream not in finished:
                yield numbered(row, data)
                continue
            batch = _batch(kind, data)
            if stream in held and not held[stream][1].takes(batch):
                yield numbered(held[stream][0], _written(kind, held.pop(stream)[1]))
            if stream in held:
                batch.rows = [*held.pop(stream)[1].rows, *batch.rows]
            before, after = old.types_around(stream, version)
            if after == kind and before != _APART:
                held[stream] = row, batch
            else:
                yield numbered(row, _written(kind, batch))


def _batch(kind: str, data: str) -> _Batch:
    told = unpacked(msgspec.json.decode(data, type=dict[str, Any]), FIELDS[kind])
    return _Batch({**told, FIELDS[kind]: None}, told[FIELDS[kind]])


def _written(kind: str, batch: _Batch) -> str:
    plain = {**batch.told, FIELDS[kind]: batch.rows}
    forms = (msgspec.json.encode(it).decode() for it in (plain, packed(plain, FIELDS[kind])))
    return min(forms, key=len)


def _counting(pages: Iterable[list[EventRow]], into: list[int]) -> Iterator[list[EventRow]]:
    """Yield a log's pages, counted."""
    for page in pages:
        _count(page, into)
        yield page


def _count(page: list[EventRow], into: list[int]) -> None:
    """Add rows, and the characters that they have: the stream stands in an index, too."""
    into[0] += len(page)
    into[1] += sum(sum(map(len, (*row[1:4], *row[5:7], row[3]))) for row in page)


@dataclass(slots=True)
class _Said:
    """What a log says, however its images stand together.

    Attributes:
        stories: Of each stream a digest of its events, and of its images one by one.
        order: A digest of the order of all that are no images.
    """

    stories: dict[str, bytes] = field(default_factory=dict)
    order: bytes = b""

    def take(self, it: Recorded) -> None:
        """Work an event in; the time of images is that of the last of their batch."""
        match it.event:
            case ImagesScored(evaluation, images):
                parts: list[Any] = [(evaluation, image) for image in images]
            case ImagesRescored(evaluation, scorer, scores):
                parts = [(evaluation, scorer, score) for score in scores]
            case event:
                parts = [(type(event).__name__, event, it.time)]
                self.order = _digest(self.order, (it.run, it.stream, parts))
        for part in parts:
            self.stories[it.stream] = _digest(self.stories.get(it.stream, b""), part)


def _digest(before: bytes, part: object) -> bytes:
    return blake2b(before + msgspec.msgpack.encode(part), digest_size=16).digest()


def _same(old: Reader, new: Path, say: Progress) -> None:
    """Read both as every command does, and compare all that they say.

    Raises:
        JournalError: They say not the same.
    """
    before, after = _Said(), _Said()
    with Journal(new, read_only=True) as journal:
        for log, said in ((old, before), (journal, after)):
            total = log.last()
            for it in log.read():
                said.take(it)
                say(_so_far("comparing", it.seq, total))
    if before != after:
        raise JournalError(f"{new}: is not what {old.path} says", fix="keep both and report it")


def _so_far(doing: str, done: int, total: int) -> str:
    return f"{doing}: {done:,} of {total:,} events"


def _remove(new: Path) -> None:
    """Remove a log that was written beside another one, with all that SQLite and we add to it."""
    for name in ("", "-wal", "-shm", "-journal", "-checked"):
        with suppress(FileNotFoundError):
            new.with_name(f"{new.name}{name}").unlink()
