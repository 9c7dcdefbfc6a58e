"""The log and the state it means, kept in step."""

from __future__ import annotations

from pathlib import Path

from clipwatch import state as s
from clipwatch.events import Event
from clipwatch.journal import Journal


def read_state(log: Path) -> s.State:
    """Return what a log means now; {} where there is none yet.

    Raises:
        JournalError: It cannot be read.
    """
    if not log.exists():
        return {}
    with Journal(log, read_only=True) as journal:
        return Ledger(journal).state


class Ledger:
    """State that changes only by what stands in the log."""

    def __init__(self, journal: Journal) -> None:
        self.state: s.State = {}
        self._journal = journal
        self._seq = 0
        self._versions: dict[str, int] = {}
        self.catch_up()

    def catch_up(self) -> None:
        """Fold what the log has beyond what we know."""
        for recorded in self._journal.read(self._seq):
            self.state = s.evolve(self.state, recorded.run, recorded.event, recorded.time)
            self._seq = recorded.seq
            self._versions[recorded.stream] = recorded.version

    def record(self, run: str, stream: str, *events: Event) -> None:
        """Append events and fold them.

        Raises:
            Conflict: Somebody else wrote to the stream; nothing was appended.
            JournalError: The log cannot be written.
        """
        self._journal.append(run, stream, self._versions.get(stream, 0), events)
        self.catch_up()
