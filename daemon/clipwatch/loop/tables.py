"""The tables of results that every run has in the state directory, whatever the settings name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Final

from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import Publishing, target
from clipwatch.domain.retries import is_due, pause
from clipwatch.domain.state import Run
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import series_of
from clipwatch.settings import Settings
from clipwatch.settings.derived import ALWAYS

PAUSE_SECONDS: Final = 30.0
"""Between two writings of a table as a whole while results are to come: of a long queue, whose
newest is scored first, each one comes late, and each time the table is longer."""

Scored = Mapping[str, Sequence[str]]
"""Protocol → evaluations, as in Run."""


@dataclass(frozen=True, slots=True)
class Tabled:
    """Message: a table holds what is `scored`, or why it does not."""

    name: str
    scored: Scored
    problem: str = ""


class Tables:
    """Keeps them as the log is: each is read, and written where it lacks something.

    They lie beside the log and follow from it, so no event tells of them and no result is owed to
    them: the log would only speak of itself. A result that comes last is a line at the end of a
    local file, as it is in the log; whole files are written in a thread, as they grow with the run,
    and not for each result while more are to come.

    Args:
        log: Of the run; hears what cannot be written, once.
        clock: The time, in UTC.
        send: Takes the messages that belong to `tabled`, from those threads.
    """

    def __init__(
        self, log: RunLog, clock: Callable[[], datetime], send: Callable[[Tabled], None]
    ) -> None:
        self._log = log
        self._clock = clock
        self._send = send
        self._tables: dict[str, trackers.Tracker] = {}
        self._kept: dict[str, Scored] = {}
        self._failed: dict[str, tuple[str, datetime]] = {}  # why, and when it is tried again
        self._writing: set[str] = set()
        self._next: dict[str, float] = {}  # when it is written again, by the clock that nobody sets
        self._put_off: set[str] = set()  # those of which that is waited for

    @property
    def busy(self) -> bool:
        """Whether one is being written, or is to be."""
        return bool(self._writing or self._put_off)

    @property
    def seconds_left(self) -> float:
        """How long until `keep` has something to do that was put off; infinity for nothing."""
        return min((self._next[it] for it in self._put_off), default=inf) - time.monotonic()

    def keep(self, settings: Settings, *, soon: bool = False) -> None:
        """Bring them up to date; one that fails is tried again after a pause.

        Args:
            settings: Of the run.
            soon: A result is to come: what would be written as a whole may wait for more of them.
        """
        self._put_off.clear()
        run, state_dir = self._log.run, settings.paths.state_dir
        for name in ALWAYS:
            _, again = self._failed.get(name, ("", None))
            kept = self._kept.get(name, {})
            if name in self._writing or kept == run.scored or not is_due(again, self._clock()):
                continue
            try:
                if name not in self._tables:
                    self._tables[name] = trackers.make(name, target(settings, run, name))
                extended = _extended(self._tables[name], run, kept, state_dir)
            except Exception as error:  # noqa: BLE001 - for no table anything else stops
                self.tabled(Tabled(name, kept, str(error)))
                continue
            if extended:
                self._kept[name] = run.scored
                continue
            if soon and time.monotonic() < self._next.get(name, 0.0):
                self._put_off.add(name)
                continue
            self._writing.add(name)
            work = threading.Thread(target=self._write, args=(name, run, kept, state_dir))
            work.daemon = True
            work.start()

    def tabled(self, message: Tabled) -> None:
        """Take note of what a table holds by now; say once what is in its way."""
        name, (before, _) = message.name, self._failed.pop(message.name, ("", None))
        self._writing.discard(name)
        self._next[name] = time.monotonic() + PAUSE_SECONDS
        if not message.problem:
            self._kept[name] = message.scored
            return
        if message.problem != before:
            self._log.say(message.problem)
        self._kept.pop(name, None)  # it is read again, as after a start
        self._failed[name] = message.problem, self._clock() + pause(1, 0.0)

    def _write(self, name: str, run: Run, kept: Scored, state_dir: Path) -> None:
        table, problem = Publishing(self._tables[name]), ""
        try:
            for protocol, ids in run.scored.items():
                if kept.get(protocol, ()) != ids:
                    list(table.bring(series_of(run, protocol, state_dir), frozenset()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop has to hear of it
            problem = str(error)
        self._send(Tabled(name, run.scored, problem))


def _extended(table: trackers.Tracker, run: Run, kept: Scored, state_dir: Path) -> bool:
    """Add the one result that a table lacks, if it is one, and comes last."""
    lacking = [it for it, ids in run.scored.items() if kept.get(it, ()) != ids]
    if len(lacking) != 1 or not isinstance(table, trackers.Extending):
        return False
    had, ids = kept.get(lacking[0], ()), run.scored[lacking[0]]
    new = bool(had) and had == ids[:-1]
    return new and table.extend(series_of(run, lacking[0], state_dir, len(had)))
