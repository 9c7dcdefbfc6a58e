"""What one run's daemon writes down, and says as it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from clipwatch import __version__, pace
from clipwatch.domain.behind import left_out
from clipwatch.domain.events import (
    EvaluationReopened,
    Event,
    OutputDirMoved,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.kinds import WhenBehind
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.queue import Pending, due, pending, reopenable
from clipwatch.domain.state import CheckpointKey, Run
from clipwatch.domain.strengths import title
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import DiskFull, LogLocked
from clipwatch.kit.textfiles import printable
from clipwatch.loop.console import Console
from clipwatch.loop.rest import rest
from clipwatch.results.listing import brief
from clipwatch.results.progress import Watcher
from clipwatch.results.view import moved
from clipwatch.settings import Settings

PAUSE_SECONDS = 10.0
"""Pause before the log is tried again, on a full disk or behind another program's lock."""

Answer = TypeVar("Answer")


def when_unlocked(act: Callable[[], Answer], say: Callable[[str], None], *, once: bool) -> Answer:
    """Open or read a log, as soon as no other program keeps it locked; with `once` now or never.

    Raises:
        JournalError: It cannot be opened or read.
    """
    told = False
    while True:
        try:
            return act()
        except LogLocked as error:
            if once:
                raise
            if not told:
                say(f"{error}: waiting for it")
            told = True
            time.sleep(PAUSE_SECONDS)


class RunLog:
    """The log of one run as its daemon sees it: what is recorded is folded and told.

    Args:
        projection: What the log means, which all runs of a daemon share that have this log; the
            caller holds the run's lock.
        name: The run's.
        console: Hears of everything that is recorded.
        alive: Called now and then while we wait for a disk.
        clock: The time, in UTC.
        once: Nobody waits for a next try.
    """

    def __init__(
        self,
        projection: Projection,
        name: str,
        console: Console,
        alive: Callable[[], None],
        clock: Callable[[], datetime],
        *,
        once: bool,
    ) -> None:
        self.name = name
        self.path = projection.path
        self.say = console.say
        self._console = console
        console.run = name
        self.working = console.working
        self.rested = console.rested
        self.during = console.during
        self._projection = projection
        self._alive = alive
        self._clock = clock
        self._since = clock()
        self._once = once
        self._rest = ""
        self._idle: tuple[Run, Settings, str] | None = None  # of which it speaks
        self.waiting = ""
        """Why the log cannot be had just now, "" when it can."""
        self._hurried = threading.Event()
        self._pace: pace.Pace | None = None  # as it was last told
        self._counted = (0, 0)
        self._pending: tuple[AbstractSet[str], str, list[Pending]] = (frozenset(), "", [])

    @property
    def begun(self) -> bool:
        """Whether the log knows of the run."""
        return self.name in self._projection.state

    @property
    def run(self) -> Run:
        """The run as the log has it; only after it has begun."""
        return self._projection.state[self.name]

    @property
    def pending(self) -> Sequence[Pending]:
        """What is still to be evaluated, worked out anew when the fold has touched some of it."""
        run = self.run
        unfinished, folder, known = self._pending
        if run.unfinished is not unfinished or run.output_dir != folder:
            known = pending(run)
            self._pending = run.unfinished, run.output_dir, known
        return known

    @property
    def due(self) -> list[Pending]:
        """What of it is to be evaluated now."""
        return due(self.run, self._clock(), self.pending)

    @property
    def seq(self) -> int:
        """The number of the log's last event, 0 before the first."""
        return self._projection.seq

    def begin(self, settings: Settings) -> None:
        """Write down what is asked for now; what failed before has a new chance."""
        told = (settings.publishing.trackers, settings.as_text())
        if not self.begun:
            self.record_run(RunStarted(str(settings.paths.named), "", *told, __version__))
        if self.run.output_dir != str(settings.paths.named):
            self.say(moved(self.run))
            self.record_run(OutputDirMoved(str(settings.paths.named)))
        if (self.run.tracker_names, self.run.settings) != told:
            same = self.run.beside
            self.record_run(SettingsChanged(self.run.protocol, *told, __version__, same))
        only, raced = settings.watching.only, settings.evaluating.race
        for evaluation in reopenable(self.run, self._clock(), only, raced=raced):
            again = EvaluationReopened(evaluation.id, self._clock())
            self.record_evaluation(evaluation.id, again)
        self._console.show(
            lambda *size: brief(self.run, self._clock(), Watcher(self._since), *size)
        )

    def refresh(self) -> None:
        """See what other processes wrote: `clipwatch retry` does.

        Raises:
            LogLocked: As `record`.
        """
        self._patiently(self._projection.catch_up)
        if self.begun:
            self._tell_pace()

    def read(self, act: Callable[[Journal], Answer]) -> Answer:
        """Read more than the fold has, through what is open; it waits and raises as `refresh`."""
        return self._patiently(lambda: act(self._projection.journal))

    def _tell_pace(self) -> None:
        """Say what checkpoints cost, when there is news of it."""
        run = self.run
        counted = len(run.checkpoints), sum(len(run.scored.get(it, ())) for it in run.present)
        if counted == self._counted or run.protocol not in run.protocols:
            return
        self._counted = counted
        protocol, now = run.protocols[run.protocol], self._clock().timestamp()
        found = pace.pace_of(protocol, run.settings, run, pace.saves_of(run), now)
        if pace.is_news(self._pace, found):
            self.say(pace.line(found))
            self._pace = found

    def hurry(self) -> None:
        """Wait for no disk any more; may be called from any thread."""
        self._hurried.set()

    def record(self, stream: str, *new: Event) -> None:
        """Write events down, then say them. On a full disk wait for space, and for who locks it.

        Reasons, which may quote what stands in somebody's files, are made printable.

        Raises:
            DiskFull, LogLocked: There is none, or somebody does; and nobody would wait.
            JournalError: The log cannot be written.
        """
        if not new:
            return
        printable_ones = tuple(map(_printable, new))
        self._write(stream, *printable_ones)
        named = partial(title, self.run)
        for event in printable_ones:
            self._console.happened(event, named, once=self._once)

    def record_run(self, *new: Event) -> None:
        """Record what happened to the run and its checkpoints."""
        self.record(f"run/{self.name}", *new)

    def record_evaluation(self, evaluation: str, *new: Event) -> None:
        """Record what happened to an evaluation."""
        self.record(evaluation_stream(self.name, evaluation), *new)

    def leave_out(self, when_behind: WhenBehind, in_hand: Container[CheckpointKey]) -> None:
        """Write down what is left out, as newer ones came: with `once` nothing, as none come.

        Args:
            when_behind: Of the settings.
            in_hand: What is evaluated just now.
        """
        if not self._once:
            self.record_run(*left_out(self.run, when_behind, in_hand))

    def rest(self, lacking: Sequence[str], settings: Settings, lying: str) -> None:
        """Say what is waited for, unless that was said last; nothing is in hand.

        Args:
            lacking: The trackers that do not show everything.
            settings: Of the run.
            lying: What its directory holds that is passed over, "" for nothing.
        """
        before, self._idle = self._idle, (self.run, settings, lying)
        if before and before[0] is self.run and before[1:] == (settings, lying):
            return  # every few seconds, for days
        line = rest(self.run, lacking, settings, lying)
        if line not in ("", self._rest):
            self.say(line)
            self._rest = line

    def _write(self, stream: str, *new: Event) -> None:
        self._patiently(lambda: self._projection.record(self.name, stream, *new))

    def _patiently(self, act: Callable[[], Answer]) -> Answer:
        """Use the log as soon as it can be had; nothing is lost meanwhile."""
        while True:
            try:
                answer = act()
            except (DiskFull, LogLocked) as error:
                if self._once or self._hurried.is_set():
                    raise
                if self.waiting != str(error):
                    what = "space" if isinstance(error, DiskFull) else "it"
                    self.say(f"{error}: waiting for {what}, nothing is lost")
                self.waiting = str(error)
                self._alive()
                self._hurried.wait(PAUSE_SECONDS)
            else:
                if self.waiting:
                    self.waiting = ""
                    self.say("the log can be written again")
                return answer


def _printable(event: Event) -> Event:
    said = {name: getattr(event, name, "") for name in ("reason", "problem")}
    plain: dict[str, Any] = {
        name: printable(text) for name, text in said.items() if not text.isprintable()
    }
    return replace(event, **plain) if plain else event
