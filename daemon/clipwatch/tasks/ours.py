"""The log that an import adds to, beside a daemon that may write to it, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from clipwatch.domain.fold import evolve
from clipwatch.domain.importing import Told
from clipwatch.domain.state import State
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import Conflict
from clipwatch.service.lock import exclusive


class Ours:
    """This log.

    Args:
        journal: Open; None where there is no log yet, and none is to be made.
        dry: Nothing is written; what would be is folded all the same.
    """

    def __init__(self, journal: Journal | None, *, dry: bool) -> None:
        self.journal = journal
        self._projection = Projection(journal) if journal else None
        self._dry: State | None = None
        if dry:
            self._dry = self._projection.state if self._projection else {}

    @property
    def state(self) -> State:
        """As it is by now."""
        return self._projection.state if self._dry is None and self._projection else self._dry or {}

    def add(self, run: str, stream: str, decide: Callable[[], Sequence[Told]]) -> Sequence[Told]:
        """Append what is decided by the state of that moment, all or nothing; return it."""
        while True:
            if self._dry is not None or self.journal is None or self._projection is None:
                told = decide()
                self._dry = evolve(self.state, ((run, event, time) for time, event in told))
                return told
            version = self.journal.version(stream)
            self._projection.catch_up()
            told = decide()
            try:
                events, times = [it for _, it in told], [time for time, _ in told]
                self.journal.append(run, stream, version, events, times)
            except Conflict:  # a daemon, or a vote
                continue
            self._projection.catch_up()
            return told


@contextmanager
def writing(state_dir: Path, *, dry: bool) -> Iterator[Ours]:
    """Open the log of a state directory, which is made if it is not there; `dry` as in Ours."""
    log = log_file(state_dir)
    if dry:
        with Journal(log, read_only=True) if log.exists() else nullcontext() as journal:
            yield Ours(journal, dry=True)
        return
    with exclusive(state_dir, "import", "wait until that is done", "running"), Journal(log) as it:
        yield Ours(it, dry=False)
