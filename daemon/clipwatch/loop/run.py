"""One watched run: its eyes, its evaluations, what becomes of their results, and its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf

from clipwatch import __version__
from clipwatch.delivery import trackers
from clipwatch.domain.delivered import parked
from clipwatch.domain.queue import with_base
from clipwatch.executors import named
from clipwatch.executors.base import Executor
from clipwatch.journal.projection import Projection
from clipwatch.judging.base import Judge
from clipwatch.judging.process import JudgeProcess
from clipwatch.kit.errors import SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.deliveries import Delivered, Deliveries
from clipwatch.loop.ending import Deadlines, Left
from clipwatch.loop.evaluations import Evaluations
from clipwatch.loop.eyes import Eyes
from clipwatch.loop.inbox import Look, Message
from clipwatch.loop.judgements import Judged, Judgements
from clipwatch.loop.page import Page
from clipwatch.loop.preparing import Prepared, Preparing
from clipwatch.loop.pruning import Pruner
from clipwatch.loop.run_log import RunLog
from clipwatch.loop.shared import Shared
from clipwatch.loop.slots import Heard
from clipwatch.loop.tables import Tabled
from clipwatch.models.identity import Identities
from clipwatch.results.view import closing
from clipwatch.service.reporter import HealthReporter
from clipwatch.settings import Settings
from clipwatch.staging import Staged

LAST_PAUSE_SECONDS = 1.0
"""Pause between turns once we are asked to stop."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run meets the world with; a test gives others.

    Attributes:
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make_tracker: Makes an adapter.
        make_executor: Makes what evaluations run on.
        judge: Says what the scores of a finished evaluation mean.
        identities: What is known of the models' files.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    luck: Callable[[], float] = random.random
    make_tracker: Callable[[str, trackers.Target], trackers.Tracker] = trackers.make
    make_executor: Callable[[Settings], Executor] = named.load
    judge: Judge = field(default_factory=JudgeProcess)
    identities: Identities = field(default_factory=Identities)


class WatchedRun:
    """Performs what the log of one run asks for; used from the loop's thread.

    Args:
        settings: Of the run.
        name: The run's in the log.
        projection: What its log means; the caller holds the run's lock.
        console: Its own, to which it says what happens; closed with it.
        parts: What it meets the world with.
        shared: What all runs of the daemon have in common.
        send: Takes the messages that belong to `take`, from any thread.
        alive: Told how it is, at each turn, and now and then while we wait for a disk.
        once: End when everything that is there is evaluated and published.
        reread: Reads the settings again; may raise SettingsError.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        projection: Projection,
        console: Console,
        parts: Parts,
        shared: Shared,
        send: Callable[[Message], None],
        alive: Callable[[str], None],
        *,
        once: bool,
        reread: Callable[[], Settings],
    ) -> None:
        self.settings, self.name, self._once, self._parts = settings, name, once, parts
        self._reread, self._alive, self._console = reread, alive, console
        self._deadlines, self._shared, self.say = Deadlines(), shared, console.say
        executor = self._executor(settings)  # if there is none, nothing was opened yet
        self._health = HealthReporter(settings, name, console.say, shared.desk)
        self._log = log = RunLog(projection, name, console, self._beat, parts.clock, once=once)
        self.eyes = Eyes(settings, log, lambda: send(Look()), once=once)
        self._preparing = Preparing(settings.protocols, log, send, parts.identities)
        chance = (parts.clock, parts.luck)
        self._deliveries = Deliveries(settings, log, send, *chance, parts.make_tracker)
        self._judgements = Judgements(settings.advice, log, send, shared.bench(parts.judge))
        self._pruner, self._page = Pruner(log, settings.paths.state_dir), Page(settings, log)
        shared.pool.rank(name, settings.service.priority)
        found = (shared.pool, self._judgements, self.eyes.lacks)
        work = (settings, log, send, *chance, executor, *found)
        self.evaluations = Evaluations(*work)

    @property
    def pause(self) -> float:
        """How many seconds may pass until the next turn, if no message comes and no look is due."""
        left = (it.seconds_left for it in (self._health, self._page, self._deliveries))
        return max(0.0, min(*left, LAST_PAUSE_SECONDS if self._deadlines.asked else inf))

    def begin(self) -> None:
        """Write down what is asked for now, and look; what failed before has a new chance.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
        """
        self._log.begin(self.settings)
        self._pruner.finish()
        self._deliveries.hint()
        self._look()
        self._health.enter("watching")

    def turn(self) -> int | None:
        """Take up what can be done now; return the exit code when nothing is left to wait for."""
        self._log.refresh()
        self._beat()
        if self._deadlines.evaluating:
            self._log.leave_out(self.settings.evaluating.when_behind, self.evaluations.in_hand)
            self.evaluations.advance(ready=self._ready())
        self._deliveries.offer(soon=bool(self._log.due) and self._deadlines.evaluating)
        self._page.offer()
        left = self._left()
        if self._done(left):
            return self._exit_code() if self._deadlines.asked or self._page.last() else None
        if not left.busy and not self._deadlines.asked:
            self._log.rest(self._deliveries.lacking, self.settings, self.eyes.more)
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
                self._judgements.judged(message)
                self._prune()
            case Delivered() | Tabled():
                self._deliveries.delivered(message)
                self._prune()

    def reload(self) -> None:
        """Read the settings again; the old ones stay in force where the new ones do not hold."""
        try:
            new = _in_place(self.settings, self._reread())
            executor = self._executor(new)
        except SettingsError as error:
            self._log.say(f"settings not reloaded, the old ones stay: {error}")
            return
        self.settings = new = replace(new, protocol=self._preparing.adopt(new.protocols))
        self.evaluations.adopt(new, executor)
        self._shared.pool.rank(self.name, new.service.priority)
        self._judgements.advice = new.advice
        self._deliveries.adopt(new)
        self._page.adopt(new)
        self.eyes.adopt(new)
        self._health.adopt(new)
        self._log.say("settings reloaded")
        self.begin()

    def stop(self) -> float:
        """End as soon as nothing is lost by it; return how many seconds that takes at most."""
        drain = 0.0 if self._deadlines.asked or self._once else self.settings.service.drain_seconds
        if drain:
            self._look()  # the last checkpoint may have come with the order to stop
        waits = bool(drain and self._left().unevaluated)
        self._health.enter("draining" if waits else "stopping")
        until = f": what is left is evaluated first, for {drain:g} s at most; again ends it at once"
        self._log.say(f"stopping{until if waits else ''}")
        return self._deadlines.ask(drain if waits else 0.0)

    def hurry(self) -> None:
        """Wait for no disk any more; may be called from any thread."""
        self._log.hurry()

    def close(self) -> None:
        """Let go of everything."""
        self.eyes.close()
        self.evaluations.close()
        self._judgements.close()
        self._page.close()
        self._health.close()
        self._console.close()

    def _executor(self, settings: Settings) -> Executor:
        return self._shared.idlers.of(self._parts.make_executor(settings))

    def _beat(self) -> None:
        run, log = self._log.run if self._log.begun else None, self._log
        self._health.beat(run, log.seq, log.waiting, self._console.doing)
        self._alive(self._health.status)

    def _look(self) -> None:
        if self.eyes.look(self.evaluations.held):
            self._deliveries.look()  # not while a mount is gone, and with it the trainer's run

    def _ready(self) -> bool:
        """Whether the next evaluation may begin: the models are here, and those that are known."""
        known = self._preparing.answered and not self._log.run.lacking
        if self.evaluations.full or (known and not self._log.due):
            return True  # and nothing begins
        return self._preparing.ready()

    def _prepared(self, message: Prepared) -> None:
        """Go over to the protocol that the models' files make, or wait for them."""
        told = (self.settings.publishing.trackers, self.settings.as_text(), __version__)
        protocol = self._preparing.prepared(message, told)
        if protocol is not None:
            self.settings = replace(self.settings, protocol=protocol)
            self.evaluations.adopt(self.settings)
            base = with_base(self._log.run, protocol, wanted=self.settings.evaluating.baseline)
            self._log.record_run(*base)
            self._deliveries.hint()

    def _prune(self) -> None:
        """Delete images that nobody needs any more; their scores stay in the log."""
        self._pruner.prune(self.settings.evaluating, self._deliveries.wanted, self.evaluations.held)

    def _left(self) -> Left:
        run = self._log.run
        open_ = not run.lacking and bool(self._log.due)
        return Left(
            at_work=open_ or self.evaluations.busy or self._deliveries.busy,
            delivering=self._deliveries.busy,
            preparing=self._preparing.busy or not self._preparing.answered,
            settling=self.eyes.settling,
            queued=bool(self._log.pending),
            owed=any(not parked(run, it) for it in self._deliveries.lacking),
        )

    def _done(self, left: Left) -> bool:
        if self._deadlines.asked:
            return self._deadlines.done(left)
        return not left.busy and (self._once or self.eyes.over(waiting=left.waiting))

    def _exit_code(self) -> int:
        if self._deadlines.asked:
            return 0
        code, lines = closing(self._log.run, self._deliveries.lacking, self.eyes.unread)
        for line in lines:
            self._log.say(line)
        return code


def _in_place(old: Settings, new: Settings) -> Settings:
    """Return the new settings, if they are for the same folders.

    Raises:
        SettingsError: They are not.
    """
    for key in ("output_dir", "state_dir"):
        if getattr(new.paths, key) != getattr(old.paths, key):
            raise SettingsError("cannot change while clipwatch runs", fix="stop it first", key=key)
    return new
