"""The log and the state it means, kept in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clipwatch.domain.events import Event
from clipwatch.domain.fold import Happened, evolve
from clipwatch.domain.state import State
from clipwatch.journal import Journal, wal
from clipwatch.kit.errors import Conflict


def read_state(log: Path, beginning: str = "") -> State:
    """Return what a log means now; {} where there is none yet.

    Args:
        log: Its file.
        beginning: Only runs whose names begin so; the others are not read.

    Raises:
        JournalError: It cannot be read.
    """
    if not log.exists():
        return {}
    with Journal(log, read_only=True) as journal:
        return state_of(journal, beginning)


def state_of(journal: Journal, beginning: str = "") -> State:
    """Return what a log that is open means now; as `read_state`."""
    runs = [it for it in _names(journal) if it.startswith(beginning)] if beginning else [""]
    told = (it for run in runs for it in journal.landmarks(run))
    return evolve({}, ((it.run, it.event, it.time) for it in told))


def run_names(log: Path) -> list[str]:
    """Return the names of a log's runs, in the order of their beginnings.

    Raises:
        JournalError: It cannot be read.
    """
    if not log.exists():
        return []
    with Journal(log, read_only=True) as journal:
        return _names(journal)


def _names(journal: Journal) -> list[str]:
    return list(dict.fromkeys(it.run for it in journal.of_types("RunStarted")))


class Following:
    """What a log means, for who looks again and again; nothing of it is held open in between.

    Args:
        path: The log's file; it need not be there yet, and another may take its place.
    """

    def __init__(self, path: Path) -> None:
        self.state: State = {}
        self._path = path
        self._seq = 0
        self._seen: list[tuple[int, ...]] = [(0,), (0,)]

    def look(self) -> bool:
        """Read what came since the last look; return whether there was anything.

        It costs two stats where nothing was written.

        Raises:
            JournalError: It cannot be read.
        """
        seen = [_sign(self._path), _sign(wal.beside(self._path))]
        if seen == self._seen:
            return False
        if seen[0][:2] != self._seen[0][:2]:  # the first one, or another in its place
            self.state, self._seq = {}, 0
        if seen[0]:
            with Journal(self._path, read_only=True) as journal:
                new = list(journal.read(self._seq)) if self._seq else journal.landmarks()
            self.state = evolve(self.state, ((it.run, it.event, it.time) for it in new))
            self._seq = new[-1].seq if new else self._seq
        self._seen = seen
        return True


def _sign(path: Path) -> tuple[int, ...]:
    """Return what changes with a file, its place on the disk first; () where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Projection:
    """State that changes only by what stands in the log.

    Args:
        journal: The log.
        only: Know this run alone, "" for all: the others are checked, but not worked in.
    """

    def __init__(self, journal: Journal, only: str = "") -> None:
        self.state: State = {}
        self.path = journal.path
        self.journal = journal
        self._only = frozenset({only}) if only else None
        self.seq = 0
        self.catch_up()

    def catch_up(self) -> None:
        """Fold what the log has beyond what we know."""
        seq = self.seq

        def happened() -> Iterator[Happened]:
            nonlocal seq
            new = self.journal.read(self.seq, brief=self.seq == 0, only=self._only)
            for recorded in new:
                seq = recorded.seq
                yield recorded.run, recorded.event, recorded.time

        self.state = evolve(self.state, happened())
        self.seq = max(seq, self.journal.known)  # those of others, too

    def record(self, run: str, stream: str, *events: Event) -> None:
        """Append events and fold them.

        Raises:
            DiskFull: There is no space for them just now.
            JournalError: The log cannot be written.
        """
        while True:
            self.catch_up()  # `clipwatch retry` may have written to the stream
            try:
                self.journal.append(run, stream, self.journal.version(stream), events)
            except Conflict:
                continue  # it did so just now, and what happened to us happened all the same
            self.catch_up()
            return
