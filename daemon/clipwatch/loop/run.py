"""One watched run: its eyes, its evaluations, what becomes of their results, and its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from clipwatch import __version__
from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import Outcome
from clipwatch.domain.delivered import unpublished
from clipwatch.domain.events import EvaluationReopened, RunStarted, SettingsChanged
from clipwatch.domain.names import run_name
from clipwatch.domain.queue import due, queue, reopenable, with_base
from clipwatch.domain.state import Run
from clipwatch.executors import named
from clipwatch.executors.base import Executor
from clipwatch.journal import Journal
from clipwatch.judging.ask import Judge
from clipwatch.judging.process import JudgeProcess
from clipwatch.kit.errors import SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.deliveries import Outbox
from clipwatch.loop.diary import Diary
from clipwatch.loop.ending import Deadlines
from clipwatch.loop.evaluations import Evaluations
from clipwatch.loop.eyes import Eyes
from clipwatch.loop.heralding import Herald, Told
from clipwatch.loop.inbox import Look, Message
from clipwatch.loop.judgements import Judged, Judging
from clipwatch.loop.preparing import Prepared, Preparing
from clipwatch.loop.pruning import prune
from clipwatch.loop.rest import rest
from clipwatch.loop.slots import Heard, Pool
from clipwatch.models.identity import Identities
from clipwatch.results.reading import images_of
from clipwatch.results.view import closing
from clipwatch.service.vitals import Vitals
from clipwatch.settings import Settings
from clipwatch.staging import Staged

LAST_PAUSE_SECONDS = 1.0
"""Pause between turns once we are asked to stop."""


def _adapter(name: str, target: trackers.Target) -> trackers.Tracker:
    return trackers.load(name)(target)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run meets the world with; a test gives others.

    Attributes:
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make_tracker: Makes an adapter.
        make_executor: Makes what evaluations run on.
        judge: Says what the scores of a finished evaluation mean; this run's alone.
        identities: What is known of the models' files.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    luck: Callable[[], float] = random.random
    make_tracker: Callable[[str, trackers.Target], trackers.Tracker] = _adapter
    make_executor: Callable[[Settings], Executor] = named.load
    judge: Judge = field(default_factory=JudgeProcess)
    identities: Identities = field(default_factory=Identities)


class WatchedRun:
    """Performs what the log of one run asks for; used from the loop's thread.

    Args:
        settings: Of the run.
        journal: Open for writing; the caller holds the run's lock.
        console: Its own, to which it says what happens; closed with it.
        parts: What it meets the world with.
        pool: Lends the slots for evaluations.
        send: Takes the messages that belong to `take`, from any thread.
        alive: Called at each turn, and now and then while we wait for a disk.
        once: End when everything that is there is evaluated and published.
        reread: Reads the settings again; may raise SettingsError.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        console: Console,
        parts: Parts,
        pool: Pool,
        send: Callable[[Message], None],
        alive: Callable[[], None],
        *,
        once: bool,
        reread: Callable[[], Settings],
    ) -> None:
        self.settings = settings
        self.name = run_name(settings.output_dir)
        self._once = once
        self._reread = reread
        self._alive = alive
        self._clock = parts.clock
        self._console = console
        self._deadlines = Deadlines()
        self._vitals = Vitals(settings, self.name, console.say)
        self._diary = diary = Diary(journal, self.name, console, self._beat, parts.clock, once=once)
        self.eyes = Eyes(settings, diary, lambda: send(Look()), once=once)
        self._preparing = Preparing(settings.protocol, diary, send, parts.identities)
        chance = (parts.clock, parts.luck)
        self._outbox = Outbox(settings, diary, send, *chance, parts.make_tracker)
        self._herald = Herald(settings.advice, diary, send, *chance)
        self._judging = Judging(settings.advice, diary, send, parts.judge)
        self.evaluations = Evaluations(
            settings, diary, send, *chance, parts.make_executor, pool, self._judging
        )

    @property
    def status(self) -> str:
        """A line for a person."""
        return self._vitals.status

    @property
    def pause(self) -> float:
        """How many seconds may pass until the next turn, if no message comes."""
        longest = LAST_PAUSE_SECONDS if self._deadlines.asked else float("inf")
        return max(0.0, min(self.eyes.seconds_left, longest))

    def begin(self) -> None:
        """Write down what is asked for now, and look; what failed before has a new chance.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
        """
        told = (self.settings.trackers, self.settings.as_text())
        if not self._diary.begun:
            place = str(self.settings.output_dir)
            self._diary.record_run(RunStarted(place, "", *told, __version__))
        elif (self._run.tracker_names, self._run.settings) != told:
            self._diary.record_run(SettingsChanged(self._run.protocol, *told, __version__))
        for evaluation in reopenable(self._run, self._clock()):
            reopened = EvaluationReopened(evaluation.id, self._clock())
            self._diary.record_evaluation(evaluation.id, reopened)
        self._outbox.hint()
        self._look()
        self._vitals.enter("watching")

    def turn(self) -> int | None:
        """Take up what can be done now; return the exit code when nothing is left to wait for."""
        self._diary.refresh()
        self._beat()
        if self._deadlines.evaluating:
            self.evaluations.advance(ready=self._ready())
        self._outbox.offer()
        self._herald.offer()
        if self._done():
            return self._exit_code()
        if not self._busy() and not self._deadlines.asked:
            self._diary.rest(rest(self._run, self._outbox.lacking, self.settings))
        return None

    def take(self, message: Message) -> None:
        """Act on a message."""
        match message:
            case Look():
                self._look()
            case Prepared():
                self._prepared(message)
            case Staged():
                self.evaluations.staged(message)
            case Heard():
                self.evaluations.heard(message)
            case Judged():
                self._judging.judged(message)
                self._prune()
            case Outcome():
                self._outbox.published(message)
                self._prune()
            case Told():
                self._herald.told(message)

    def reload(self) -> None:
        """Read the settings again; the old ones stay in force where the new ones do not hold."""
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
        self.evaluations.adopt(new)
        self._judging.advice = new.advice
        self._outbox.adopt(new)
        self._herald.adopt(new.advice)
        self.eyes.adopt(new)
        self._vitals.adopt(new)
        self._diary.say("settings reloaded")
        self.begin()

    def stop(self) -> float:
        """End as soon as nothing is lost by it; return how many seconds that takes at most."""
        drain = 0.0 if self._deadlines.asked or self._once else self.settings.drain_seconds
        if drain:
            self._look()  # the last checkpoint may have come with the order to stop
        waits = bool(drain and self._unevaluated())
        seconds = self._deadlines.ask(drain if waits else 0.0)
        self._vitals.enter("draining" if waits else "stopping")
        until = f": what is left is evaluated first, for {drain:g} s at most; again ends it at once"
        self._diary.say(f"stopping{until if waits else ''}")
        return seconds

    def hurry(self) -> None:
        """Wait for no disk any more; may be called from any thread."""
        self._diary.hurry()

    def close(self) -> None:
        """Let go of everything."""
        self.eyes.close()
        self.evaluations.close()
        self._judging.close()
        self._vitals.close()
        self._console.close()

    @property
    def _run(self) -> Run:
        return self._diary.run

    def _beat(self) -> None:
        self._vitals.beat(self._run if self._diary.begun else None, self._diary.seq)
        self._alive()

    def _look(self) -> None:
        if self.eyes.look(self.evaluations.held):
            self._outbox.look()  # not while a mount is gone, and with it the trainer's run

    def _ready(self) -> bool:
        """Whether the next evaluation may begin: the models are here, and those that are known."""
        known = self._preparing.answered and not self._run.lacking
        if self.evaluations.busy or (known and not due(self._run, self._clock())):
            return True  # and nothing begins
        return self._preparing.ready()

    def _prepared(self, message: Prepared) -> None:
        """Go over to the protocol that the models' files make, or wait for them."""
        told = (self.settings.trackers, self.settings.as_text(), __version__)
        protocol = self._preparing.prepared(message, told)
        if protocol is not None:
            self.settings = replace(self.settings, protocol=protocol)
            self.evaluations.adopt(self.settings)
            wanted = self.settings.baseline
            self._diary.record_run(*with_base(self._run, protocol, wanted=wanted))
            self._outbox.hint()

    def _prune(self) -> None:
        """Delete images that nobody needs any more; their scores stay in the log."""
        lacking = (unpublished(self._run, name) for name in self._outbox.lacking)
        wanted = {id_ for lacks in lacking for id_ in lacks}
        images = images_of(self.settings.state_dir, self.name)
        prune(self._run, images, self.settings.keep_images, wanted)

    def _busy(self) -> bool:
        """Whether anything is in hand, or can be taken up now."""
        asking = self._preparing.busy or not self._preparing.answered
        return self._at_work() or asking or self.eyes.settling

    def _at_work(self) -> bool:
        """Whether anything of a checkpoint is in hand, or due."""
        open_ = not self._run.lacking and bool(due(self._run, self._clock()))
        return open_ or self.evaluations.busy or self._outbox.busy or self._herald.busy

    def _done(self) -> bool:
        if self._deadlines.over:
            return True
        if self._deadlines.asked and not self._deadlines.evaluating:
            return not (self._outbox.busy or self._herald.busy)
        if self._busy():
            return False
        if self._deadlines.asked:
            return not self._unevaluated()
        return self._once or self.eyes.over(waiting=self._waiting())

    def _unevaluated(self) -> bool:
        """Whether a checkpoint may still get a score, now or after a pause."""
        return self._at_work() or self.eyes.settling or bool(queue(self._run))

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
