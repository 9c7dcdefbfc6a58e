"""The loop: one thread acts for every watched run, all else sends it messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TypeVar

from clipwatch.domain.names import run_id
from clipwatch.domain.state import State
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import ClipwatchError
from clipwatch.loop.console import Console
from clipwatch.loop.handing import Idlers
from clipwatch.loop.inbox import Do, Inbox, Letter, Look, Reload, Stop, Turn
from clipwatch.loop.overview import together
from clipwatch.loop.run import Parts, WatchedRun
from clipwatch.loop.run_log import when_unlocked
from clipwatch.loop.shared import Shared
from clipwatch.loop.slots import Pool
from clipwatch.service.health.probes import LoopState
from clipwatch.service.heartbeat import BEAT_SECONDS
from clipwatch.service.sd_notify import ServiceManager
from clipwatch.settings import Settings

Answer = TypeVar("Answer")
Ended = Callable[[ClipwatchError | OSError | None], None]
"""Called when a run has ended, with what ended it; None where it came to its own end."""

LOOK_SHARE = 0.2
"""The most of the loop's time that goes into looks that nothing hints at."""


@dataclass(slots=True)
class _Watched:
    """A run that has not ended.

    Attributes:
        run: It.
        journal: Its log, which others may have, too.
        ended: Called when it has ended.
        due: When it has its next turn, by time.monotonic().
        status: For a person, "" before its first turn.
        busy: Whether a checkpoint of it is evaluated, as told then.
    """

    run: WatchedRun
    journal: Journal
    ended: Ended
    due: float = 0.0
    status: str = ""
    busy: bool = False


class Looks:
    """Whose folder is looked at: where there is a hint, and of those that are due one by one.

    Of a hundred runs many are due at once, and a look at a hundred checkpoints takes some time.
    """

    def __init__(self) -> None:
        self._next = 0.0  # when one is due at the earliest, by the clock that nobody sets
        self._due = ""  # whose look was due last

    def seconds_left(self, runs: Iterable[_Watched]) -> float:
        """How long it is until one is due; infinity where there is no run."""
        first = min((it.run.eyes.seconds_left for it in runs), default=inf)
        return max(first, self._next - time.monotonic())

    def letters(self, runs: Mapping[str, _Watched], hinted: AbstractSet[str]) -> list[Letter]:
        """Return the looks that are hinted at, and the one that is due the longest."""
        self._due = ""
        if self.seconds_left(runs.values()) <= 0:
            self._due = min(runs, key=lambda it: runs[it].run.eyes.seconds_left)
        return [Letter(it, Look()) for it in runs if it in hinted or it == self._due]

    def took(self, run: str, seconds: float) -> None:
        """Take note of how long one took; the others stay due, however many hints come."""
        if run == self._due:
            self._next = time.monotonic() + seconds * (1 / LOOK_SHARE - 1)


class Supervisor:
    """Receives, dispatches and waits; `run` returns when all runs have ended.

    The runs share the slots for evaluations, and each has an outbox and an end of its own. A run
    has a turn when there is a message for it, or something of it is due; what a turn costs does not
    grow with the number of the others.

    Args:
        once: Each run ends when everything that is there is evaluated and published.
        lasting: Runs come and go: go on without any until `stop`.
        service: Is told that we are ready, alive, reloading and stopping.
    """

    def __init__(
        self, *, once: bool = False, lasting: bool = False, service: ServiceManager | None = None
    ) -> None:
        self._once, self._lasting = once, lasting
        self._service = service or ServiceManager({})
        self._inbox, self._looks = Inbox(), Looks()
        self._pool = Pool(lambda: self._inbox.put(Turn()))
        self.shared = Shared(self._pool, Idlers(self._pool.wanted))
        self._projections: dict[Journal, Projection] = {}
        self._runs: dict[str, _Watched] = {}
        self._codes: dict[str, int] = {}  # of those that have ended
        self.begun = self._stopping = False

    @property
    def statuses(self) -> dict[str, str]:
        """Of each run its status, for a person; from any thread."""
        return {name: it.status for name, it in tuple(self._runs.items()) if it.status}

    def watch(
        self,
        settings: Settings,
        journal: Journal,
        console: Console,
        *,
        name: str = "",
        reread: Callable[[], Settings] | None = None,
        parts: Parts | None = None,
        ended: Ended = lambda _: None,
        alone: bool = False,
    ) -> WatchedRun:
        """Take a run on, before `run` is called or in its thread.

        Args:
            settings: Of the run.
            journal: Open for writing; the caller holds the run's lock.
            console: To which it says what happens; each run has its own.
            name: The run's in the log, "" for the one that its path makes.
            reread: Reads the settings again; may raise SettingsError.
            parts: What it meets the world with.
            ended: Called when it has ended.
            alone: No other run of its log is watched here, so that those are not read.

        Raises:
            JournalError: The log cannot be read.
        """
        name = name or run_id(settings.paths.named)
        known, read = self._projections.get(journal), partial(Projection, journal, name * alone)
        known = known or when_unlocked(read, console.say, once=self._once or self.begun)
        work = (settings, name, known, console, parts or Parts(), self.shared)
        run = WatchedRun(
            *work,
            self._inbox.of(name),
            partial(self._alive, name),
            once=self._once,
            reread=reread or (lambda: settings),
        )
        self._runs[name], self._projections[journal] = _Watched(run, journal, ended), known
        self._codes.pop(name, None)
        if self.begun:
            self._safely(name, run.begin)
        return run

    def state(self, journal: Journal) -> State:
        """Return what a log means of which a run is watched."""
        return self._projections[journal].state

    def release(self, name: str) -> None:
        """Let a run end as at a stop, in the thread of `run`; nothing happens if it is none."""
        if watched := self._runs.get(name):
            self._safely(name, watched.run.stop)
            watched.due = 0.0

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._inbox.put(Stop())
        for watched in tuple(self._runs.values()):
            watched.run.hurry()

    def reload(self) -> None:
        """Ask `run` to read the settings again; may be called as `stop`."""
        self._inbox.put(Reload())

    def soon(self, act: Callable[[], None]) -> None:
        """Have something done in the thread of `run`, unless it stops; may be called as `stop`."""
        self._inbox.put(Do(lambda: None if self._stopping else act()))

    def run(self) -> int:
        """Work until told to stop. Return 0, or with `once` 1 if something failed.

        Where there are several runs, one that fails ends alone and makes that the exit code.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
            JournalError: A log cannot be read or written; nothing else was lost.
        """
        self.begun, touched = True, set[str]()
        try:
            for name, watched in tuple(self._runs.items()):
                self._safely(name, watched.run.begin)
            self._service.ready()
            while True:
                self._turn(touched)
                if not self._runs and not self._lasting:
                    return max(self._codes.values(), default=0)
                touched = set[str]().union(*map(self._take, self._receive()))
        finally:
            _close([it.run for it in self._runs.values()])
            self.shared.close()

    def _turn(self, touched: set[str]) -> None:
        """Let each run do what can be done that was touched, or of which something is due."""
        now, over = time.monotonic(), dict[str, int]()
        self.shared.desk.own = LoopState(None, 0, "idle", now)
        due = [(name, it) for name, it in self._runs.items() if name in touched or it.due <= now]
        for name, it in due:
            if (code := self._safely(name, it.run.turn)) is not None:
                it.run.eyes.leave()  # who hangs is waited for once, not once for each run
                over[name] = code
            it.due = time.monotonic() + min(it.run.pause, BEAT_SECONDS)
        for name, code in over.items():
            self._end(name, code)

    def _safely(self, name: str, act: Callable[[], Answer]) -> Answer | None:
        """Have a run do something; if it fails and there are others, it ends alone."""
        try:
            return act()
        except (ClipwatchError, OSError) as error:
            if not self._lasting and len(self._runs) + len(self._codes) == 1:
                raise
            self._runs[name].run.say(f"ends by a fault, the other runs go on: {error}")
            self._end(name, error.exit_code if isinstance(error, ClipwatchError) else 1, error)
        return None

    def _end(self, name: str, code: int, error: ClipwatchError | OSError | None = None) -> None:
        self._codes[name], watched = code, self._runs.pop(name)
        watched.run.close()
        if all(it.journal is not watched.journal for it in self._runs.values()):
            del self._projections[watched.journal]
        watched.ended(error)

    def _receive(self) -> list[Letter]:
        """Wait for messages until something is due; a look comes last, and each kind only once."""
        due = min((it.due for it in self._runs.values()), default=inf) - time.monotonic()
        pause = min(due, self._looks.seconds_left(self._runs.values()))
        letters = self._inbox.receive(max(0.0, min(pause, BEAT_SECONDS, self._service.patience)))
        hinted = {letter.run for letter in letters if isinstance(letter.message, Look)}
        once = {type(it.message): it for it in letters if isinstance(it.message, (Turn, Reload))}
        others = [it for it in letters if not isinstance(it.message, (Look, Turn, Reload))]
        return others + list(once.values()) + self._looks.letters(self._runs, hinted)

    def _take(self, letter: Letter) -> Iterable[str]:
        """Act on a message; return the runs that have a turn by it."""
        runs = tuple(self._runs.items())
        match letter.message:
            case Stop():
                self._lasting, self._stopping = False, True
                self._codes.clear()  # what failed before is no failure of the stop
                took = [self._safely(name, watched.run.stop) for name, watched in runs]
                self._service.stopping(max(filter(None, took), default=0.0))
            case Reload():
                self._service.reloading()
                for name, watched in runs:
                    self._safely(name, watched.run.reload)
                self._service.ready()
            case Turn():
                return self._pool.stirred(lambda it: self._runs[it].run.evaluations.idle)
            case Do(act):
                act()
                return ()
            case message:
                if found := self._runs.get(letter.run):
                    began = time.monotonic()
                    self._safely(letter.run, partial(found.run.take, message))
                    if isinstance(message, Look):
                        self._looks.took(letter.run, time.monotonic() - began)
                return (letter.run,)
        return self._runs

    def _alive(self, name: str, status: str) -> None:
        if watched := self._runs.get(name):
            watched.status, watched.busy = status, watched.run.evaluations.busy
        busy = sum(it.busy for it in self._runs.values())
        self._service.alive(together(self.statuses, busy, len(self._pool.waiting)))


def _close(runs: Sequence[WatchedRun]) -> None:
    for run in runs:
        run.eyes.leave()
    for run in runs:
        run.close()
