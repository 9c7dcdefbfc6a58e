"""The log and the state it means, kept in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clipwatch.domain.events import Event
from clipwatch.domain.fold import Happened, evolve
from clipwatch.domain.state import State
from clipwatch.journal import Journal
from clipwatch.kit.errors import Conflict


def read_state(log: Path) -> State:
    """Return what a log means now; {} where there is none yet.

    Raises:
        JournalError: It cannot be read.
    """
    if not log.exists():
        return {}
    with Journal(log, read_only=True) as journal:
        return evolve({}, ((it.run, it.event, it.time) for it in journal.landmarks()))


class Projection:
    """State that changes only by what stands in the log."""

    def __init__(self, journal: Journal) -> None:
        self.state: State = {}
        self._journal = journal
        self.seq = 0
        self.catch_up()

    def catch_up(self) -> None:
        """Fold what the log has beyond what we know."""
        seq = self.seq

        def happened() -> Iterator[Happened]:
            nonlocal seq
            for recorded in self._journal.read(self.seq, brief=self.seq == 0):
                seq = recorded.seq
                yield recorded.run, recorded.event, recorded.time

        self.state = evolve(self.state, happened())
        self.seq = seq

    def record(self, run: str, stream: str, *events: Event) -> None:
        """Append events and fold them.

        Raises:
            DiskFull: There is no space for them just now.
            JournalError: The log cannot be written.
        """
        while True:
            self.catch_up()  # `clipwatch retry` may have written to the stream
            try:
                self._journal.append(run, stream, self._journal.version(stream), events)
            except Conflict:
                continue  # it did so just now, and what happened to us happened all the same
            self.catch_up()
            return
