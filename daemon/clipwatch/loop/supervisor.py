"""The loop that performs what `state` decides: one thread owns it, all else sends it messages."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

from clipwatch import __version__
from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import Outcome
from clipwatch.domain.delivered import unpublished
from clipwatch.domain.events import (
    EvaluationReopened,
    OutputDirChecked,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.names import run_name
from clipwatch.domain.queue import due as due_
from clipwatch.domain.queue import newest_written, observe, queue, reopenable, wholes, with_base
from clipwatch.domain.state import Run
from clipwatch.executors import named
from clipwatch.executors.base import Executor
from clipwatch.journal import Journal
from clipwatch.judging.ask import Judge
from clipwatch.judging.process import JudgeProcess
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.filesystems import make_private
from clipwatch.layouts import Scanner
from clipwatch.layouts.files import NotReadable
from clipwatch.layouts.watch import Watcher
from clipwatch.loop.console import Console
from clipwatch.loop.deliveries import Outbox
from clipwatch.loop.diary import Diary
from clipwatch.loop.ending import Deadlines, TrainingEnd
from clipwatch.loop.evaluations import Evaluations
from clipwatch.loop.heralding import Herald, Told
from clipwatch.loop.judgements import Judged, Judging
from clipwatch.loop.preparing import Prepared, Preparing
from clipwatch.loop.pruning import prune
from clipwatch.loop.rest import rest
from clipwatch.loop.slots import Heard, Pool
from clipwatch.models.identity import Identities
from clipwatch.results.reading import images_of
from clipwatch.results.view import closing
from clipwatch.service.sd_notify import ServiceManager
from clipwatch.service.vitals import Vitals
from clipwatch.service.wake import wake_folder
from clipwatch.settings import Settings
from clipwatch.staging import Staged

LAST_PAUSE_SECONDS = 1.0
"""Pause between turns once we are asked to stop."""

PENDING_SECONDS = 1.0
"""Pause between looks while a checkpoint is being written."""


class Look:
    """Message: something may have changed in the output directory."""


class Stop:
    """Message: end as soon as nothing is lost by it."""


class Reload:
    """Message: read the settings again."""


Message = Look | Stop | Reload | Prepared | Outcome | Heard | Staged | Judged | Told


class Supervisor:
    """Watches one run; `run` returns when it is told to stop, or with `once` when all is done.

    Args:
        settings: Of the run.
        journal: Open for writing; the caller holds the run's lock.
        console: To which it says what happens.
        once: End when everything that is there is evaluated and published.
        reread: Reads the settings again; may raise SettingsError.
        service: Is told that we are ready, alive, reloading and stopping.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make_tracker: Makes an adapter.
        make_executor: Makes what evaluations run on.
        judge: Says what the scores of a finished evaluation mean.
        identities: What is known of the models' files.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        console: Console,
        *,
        once: bool = False,
        reread: Callable[[], Settings] | None = None,
        service: ServiceManager | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        luck: Callable[[], float] = random.random,
        make_tracker: Callable[[str, trackers.Target], trackers.Tracker] | None = None,
        make_executor: Callable[[Settings], Executor] = named.load,
        judge: Judge | None = None,
        identities: Identities | None = None,
    ) -> None:
        self.settings = settings
        self.name = run_name(settings.output_dir)
        self._vitals = Vitals(settings, self.name, service or ServiceManager({}), console.say)
        self._diary = Diary(journal, self.name, console, self._beat, clock, once=once)
        self._console = console
        self._once = once
        self._reread = reread or (lambda: settings)
        self._clock = clock
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._deadlines = Deadlines()
        self._training_end = self._new_training_end()
        self._ended = ""
        self._look_at = 0.0  # by the clock that nobody sets
        self._scanner = self._new_scanner()
        self._watcher = self._new_watcher()
        make = make_tracker or (lambda name, target: trackers.load(name)(target))
        self._preparing = Preparing(
            settings.protocol, self._diary, self._inbox.put, identities or Identities()
        )
        self._outbox = Outbox(settings, self._diary, self._inbox.put, clock, luck, make)
        self._judging = Judging(
            settings.advice, self._diary, self._inbox.put, judge or JudgeProcess()
        )
        self._evaluations = Evaluations(
            settings,
            self._diary,
            self._inbox.put,
            clock,
            luck,
            make_executor,
            Pool(),
            self._judging,
        )
        self._herald = Herald(settings.advice, self._diary, self._inbox.put, clock, luck)

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._inbox.put(Stop())
        self._diary.hurry()

    def reload(self) -> None:
        """Ask `run` to read the settings again; may be called as `stop`."""
        self._inbox.put(Reload())

    def _hint(self) -> None:
        self._inbox.put(Look())

    @property
    def _run(self) -> Run:
        return self._diary.run

    def run(self) -> int:
        """Work until told to stop. Return 0, or with `once` 1 if something failed.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
            JournalError: The log cannot be read or written; nothing else was lost.
        """
        try:
            self._begin()
            self._look()
            self._vitals.ready()
            while True:
                self._diary.refresh()
                self._beat()
                if self._deadlines.evaluating:
                    self._evaluations.advance(ready=self._ready())
                self._outbox.offer()
                self._herald.offer()
                if self._done():
                    return self._exit_code()
                if not self._busy() and not self._deadlines.asked:
                    self._diary.rest(rest(self._run, self._outbox.lacking, self.settings))
                for message in self._receive():
                    self._take(message)
        finally:
            self._watcher.close()
            self._evaluations.close()
            self._judging.close()
            self._vitals.close()
            self._console.close()

    def _beat(self) -> None:
        self._vitals.beat(self._run if self._diary.begun else None, self._diary.seq)

    # Settings -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Write down what is asked for now; what failed before has a new chance."""
        settings = self.settings
        told = (settings.trackers, settings.as_text())
        if not self._diary.begun:
            place = str(settings.output_dir)
            self._diary.record_run(RunStarted(place, "", *told, __version__))
        elif (self._run.tracker_names, self._run.settings) != told:
            self._diary.record_run(SettingsChanged(self._run.protocol, *told, __version__))
        for evaluation in reopenable(self._run, self._clock()):
            reopened = EvaluationReopened(evaluation.id, self._clock())
            self._diary.record_evaluation(evaluation.id, reopened)
        self._outbox.hint()

    def _ready(self) -> bool:
        """Whether the next evaluation may begin: the models are here, and those that are known."""
        known = self._preparing.answered and not self._run.lacking
        if self._evaluations.busy or (known and not due_(self._run, self._clock())):
            return True  # and nothing begins
        return self._preparing.ready()

    def _prepared(self, message: Prepared) -> None:
        """Go over to the protocol that the models' files make, or wait for them."""
        told = (self.settings.trackers, self.settings.as_text(), __version__)
        protocol = self._preparing.prepared(message, told)
        if protocol is not None:
            self.settings = replace(self.settings, protocol=protocol)
            self._evaluations.adopt(self.settings)
            wanted = self.settings.baseline
            self._diary.record_run(*with_base(self._run, protocol, wanted=wanted))
            self._outbox.hint()

    def _reload(self) -> None:
        try:
            new = self._reread()
            for key in ("output_dir", "state_dir"):
                if getattr(new, key) != getattr(self.settings, key):
                    raise SettingsError(
                        "cannot change while clipwatch runs", fix="stop it first", key=key
                    )
        except SettingsError as error:
            self._diary.say(f"settings not reloaded, the old ones stay: {error}")
            return
        new = replace(new, protocol=self._preparing.adopt(new.protocol))
        self.settings = new
        self._evaluations.adopt(new)
        self._judging.advice = new.advice
        self._outbox.adopt(new)
        self._herald.adopt(new.advice)
        self._scanner = self._new_scanner()
        self._watcher.close()
        self._watcher = self._new_watcher()
        self._training_end = self._new_training_end()
        self._vitals.adopt(new)
        self._diary.say("settings reloaded")
        self._begin()
        self._look()

    # Looking ------------------------------------------------------------------------------------

    def _new_scanner(self) -> Scanner:
        return Scanner(
            self.settings.output_dir,
            weights=self.settings.protocol.weights,
            settle_seconds=self.settings.settle_seconds,
            known=wholes(self._run) if self._diary.begun else {},
        )

    def _new_watcher(self) -> Watcher:
        wake = wake_folder(self.settings.state_dir)
        with suppress(OSError):  # hints are never needed
            make_private(wake)
        return Watcher(self.settings.output_dir, wake, self.settings.watch, self._hint)

    def _new_training_end(self) -> TrainingEnd | None:
        ends = self.settings.exit_when_done
        return TrainingEnd(ends, self.settings.output_dir) if ends else None

    def _look(self) -> None:
        problem, sightings = "", None
        try:
            sightings = self._scanner.scan()
        except FileNotFoundError:
            problem = f"{self.settings.output_dir} does not exist yet"
            if self._once:
                raise SettingsError(
                    f"{self.settings.output_dir} does not exist", key="output_dir"
                ) from None
        except NotReadable as error:
            problem = str(error)
        if problem != self._run.problem:
            self._diary.record_run(OutputDirChecked(problem))
        if sightings is not None:
            seen = observe(self._run, sightings, self._evaluations.held)
            self._diary.record_run(*seen)
            self._look_for_end(bool(seen))
            self._outbox.look()  # not while a mount is gone, and with it the trainer's run
        self._watcher.rearm(self._pending_paths())
        self._look_at = time.monotonic() + self._rescan_seconds()

    def _look_for_end(self, news: bool) -> None:
        """See whether the training has ended, and say so once."""
        if self._training_end is None:
            return
        if news:
            self._training_end.news()
        reason = self._training_end.look(newest_written(self._run), self.settings.settle_seconds)
        if reason and not self._ended:
            self._diary.say(f"the training has ended: {reason}; ending when all is published")
        self._ended = reason

    def _pending_paths(self) -> list[Path]:
        partial = (c for c in self._run.checkpoints.values() if c.state == "partial")
        return [Path(checkpoint.path) for checkpoint in partial]

    # The loop -----------------------------------------------------------------------------------

    def _receive(self) -> list[Message]:
        """Wait for messages until something is due."""
        messages: list[Message] = []
        with suppress(Empty):
            messages.append(self._inbox.get(timeout=self._pause()))
        while not self._inbox.empty():
            messages.append(self._inbox.get())
        hints = [message for message in messages if isinstance(message, Look)]
        others = [message for message in messages if not isinstance(message, Look)]
        if time.monotonic() >= self._look_at:
            hints.append(Look())
        return others + hints[:1]

    def _take(self, message: Message) -> None:
        match message:
            case Look():
                self._look()
            case Stop():
                self._asked_to_stop()
            case Reload():
                self._vitals.reloading()
                self._reload()
                self._vitals.ready()
            case Prepared():
                self._prepared(message)
            case Outcome():
                self._outbox.published(message)
                self._prune()
            case Told():
                self._herald.told(message)
            case Staged():
                self._evaluations.staged(message)
            case Heard():
                self._evaluations.heard(message)
            case Judged():
                self._judging.judged(message)
                self._prune()

    def _prune(self) -> None:
        """Delete images that nobody needs any more; their scores stay in the log."""
        lacking = (unpublished(self._run, name) for name in self._outbox.lacking)
        wanted = {id_ for lacks in lacking for id_ in lacks}
        images = images_of(self.settings.state_dir, self.name)
        prune(self._run, images, self.settings.keep_images, wanted)

    def _asked_to_stop(self) -> None:
        drain = 0.0 if self._deadlines.asked or self._once else self.settings.drain_seconds
        if drain:
            self._look()  # the last checkpoint may have come with the order to stop
        waits = bool(drain and self._unevaluated())
        seconds = self._deadlines.ask(drain if waits else 0.0)
        self._vitals.stopping("draining" if waits else "stopping", seconds)
        until = f": what is left is evaluated first, for {drain:g} s at most; again ends it at once"
        self._diary.say(f"stopping{until if waits else ''}")

    def _rescan_seconds(self) -> float:
        seconds = self.settings.rescan_seconds
        return min(seconds, PENDING_SECONDS) if self._pending_paths() else seconds

    def _pause(self) -> float:
        longest = LAST_PAUSE_SECONDS if self._deadlines.asked else self._vitals.patience
        return max(0.0, min(self._look_at - time.monotonic(), longest))

    def _busy(self) -> bool:
        """Whether anything is in hand, or can be taken up now."""
        asking = self._preparing.busy or not self._preparing.answered
        return self._at_work() or asking or self._scanner.settling

    def _at_work(self) -> bool:
        """Whether anything of a checkpoint is in hand, or due."""
        due = not self._run.lacking and bool(due_(self._run, self._clock()))
        return due or self._evaluations.busy or self._outbox.busy or self._herald.busy

    def _done(self) -> bool:
        if self._deadlines.over:
            return True
        if self._deadlines.asked and not self._deadlines.evaluating:
            return not (self._outbox.busy or self._herald.busy)
        if self._busy():
            return False
        if self._deadlines.asked:
            return not self._unevaluated()
        if self._once:
            return True
        end = self._training_end
        return end is not None and bool(self._ended) and (not self._waiting() or end.waited)

    def _unevaluated(self) -> bool:
        """Whether a checkpoint may still get a score, now or after a pause."""
        return self._at_work() or self._scanner.settling or bool(queue(self._run))

    def _waiting(self) -> bool:
        """Whether failed work is to be tried again later."""
        parked = {name for name, tracker in self._run.trackers.items() if tracker.parked}
        return bool(queue(self._run) or set(self._outbox.lacking) - parked)

    def _exit_code(self) -> int:
        if self._deadlines.asked:
            return 0
        code, lines = closing(self._run, self._outbox.lacking)
        for line in lines:
            self._diary.say(line)
        return code
