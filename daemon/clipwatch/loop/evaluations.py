"""Evaluations, in one slot or several: kept from rotation, evaluated, and what came of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from clipwatch.domain.attempts import failure
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.queue import Pending, pending, vanished
from clipwatch.domain.retries import OF_CHECKPOINT
from clipwatch.domain.state import Checkpoint, CheckpointKey, Run
from clipwatch.executors.base import Executor
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Failed, Finished, Scored
from clipwatch.loop.attempt import Attempt
from clipwatch.loop.dealing import Dealer
from clipwatch.loop.hand import Hand
from clipwatch.loop.judgements import Judgements
from clipwatch.loop.keeping import Keeping
from clipwatch.loop.race import Race
from clipwatch.loop.run_log import RunLog
from clipwatch.loop.seats import Seats
from clipwatch.loop.slots import Heard, Pool, Seat
from clipwatch.loop.vacancies import Vacancies
from clipwatch.settings import Settings
from clipwatch.staging import Staged


class Evaluations:
    """Keeps evaluators busy with the checkpoints that are due; used from the loop's thread.

    Args:
        settings: Of the run.
        log: Gets what happens.
        send: Takes the messages that belong to `heard` and `staged`, from any thread.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses.
        executor: Has the slots in which they run.
        pool: Lends them.
        judgements: Takes what is finished.
        lacks: Whether a checkpoint is not here yet, though the log has it as whole.
    """

    def __init__(
        self,
        settings: Settings,
        log: RunLog,
        send: Callable[[Heard | Staged], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
        executor: Executor,
        pool: Pool,
        judgements: Judgements,
        lacks: Callable[[Checkpoint], bool] = lambda _: False,
    ) -> None:
        self._settings, self._log = settings, log
        self._clock, self._luck = clock, luck
        self._judgements, self._lacks = judgements, lacks
        self._seats = Seats(log.name, executor, pool, send)
        self._hand = Hand(log, self._seats)
        self._vacancies = Vacancies(log, clock)
        self._keeping = Keeping(settings, log, send)
        self._race = Race(settings, log, clock)
        self._dealer = Dealer(settings, log, self._hand, self._keeping, self._race, clock)

    @property
    def busy(self) -> bool:
        """Whether an evaluation is in hand, or being judged."""
        return bool(self.in_hand)

    @property
    def full(self) -> bool:
        """Whether nothing can begin: what may be had, as far as is known, is in use, or others'."""
        used = len(self._hand.shares) >= self._seats.room(self._settings.compute.most_slots)
        return used or not (self.idle or self._seats.in_turn)

    @property
    def idle(self) -> bool:
        """Whether it has a slot of which it makes no use."""
        return any(it not in self._hand.shares for it in self._seats)

    @property
    def in_hand(self) -> frozenset[CheckpointKey]:
        """What is evaluated, or being judged."""
        return self._judgements.keys | self._hand.keys

    @property
    def held(self) -> frozenset[CheckpointKey]:
        """What can be evaluated though its folder may be gone."""
        return self._keeping.keys | self.in_hand

    def adopt(self, settings: Settings, executor: Executor | None = None) -> None:
        """Work by these settings, and in an executor's slots; what they make another is dropped."""
        old, self._settings = self._settings, settings
        self._race.settings = self._dealer.settings = settings
        if _work(old) != _work(settings):
            self._hand.clear()
            self._vacancies.reset()
        self._seats.executor = executor or self._seats.executor
        self._keeping.adopt(settings)

    def close(self) -> None:
        """End the evaluators; what they have not reported is done again later."""
        self._seats.wait_no_more()
        self._seats.leave_all()
        self._keeping.close()

    def advance(self, *, ready: bool) -> None:
        """End what hangs, or was imported meanwhile; give the slots that are free to what waits.

        Args:
            ready: The models are here; else checkpoints are only kept from rotation.
        """
        self._vacancies.look(self._seats.executor)
        self._end_if_over()
        run, attempts = self._log.run, self._hand.attempts
        found = self._race.due(attempts, ready=ready) if run.protocol else self._log.pending
        taken = self._judgements.ids | attempts.keys()
        due = [it for it in found if it.id not in taken and not self._lacks(it.checkpoint)]
        slots = self._seats.room(self._settings.compute.most_slots)
        due = self._keeping.want([it.job.checkpoint for it in attempts.values()], due, slots)
        if self._hand.of_base or (due and due[0].checkpoint.is_base):  # with which all are compared
            due = [it for it in due if it.checkpoint.is_base]
        self._leave_contested(idle=False)
        # what is judged may be what they are compared with
        wait = self._settings.evaluating.decide == "difference" and self._judgements.ids
        for it in self._dealer.deal(due if ready and not wait else []):
            self._failed(it.work, it.failed.kind, it.failed.reason)
        self._leave_contested(idle=not due)

    def staged(self, message: Staged) -> None:
        """Write down why a checkpoint could not be kept; a kept one is taken up when it is due."""
        checkpoint = message.checkpoint
        known = self._log.run.checkpoints.get(checkpoint.name)
        if message.kind and known == checkpoint:
            for it in pending(self._log.run):
                if it.checkpoint == checkpoint and it in pending(self._log.run):  # not yet gone
                    self._failed(it, message.kind, message.problem)

    def heard(self, message: Heard) -> None:
        """Write down what an evaluator says of what it has in hand."""
        seat = self._seats.of(message)
        share = self._hand.shares.get(seat) if seat else None
        if seat is None or share is None:
            return  # the last words of one that was ended
        if not share.unwanted and _scored(self._log.run, share.attempt.job):  # by an import
            self._hand.drop(share.attempt, leave=True)
            return
        reply = message.reply
        if share.unwanted:
            if isinstance(reply, Scored):
                share.evaluator.kept(enough=True)
            found = reply if isinstance(reply, Finished | Failed) else None
        else:
            found = share.attempt.heard(share, reply)
        if isinstance(found, Failed):
            self._share_failed(seat, found)
        elif found is not None:
            self._hand.end(seat)
            self._end_if_whole(share.attempt)

    def _leave_contested(self, *, idle: bool) -> None:
        """Give back what others wait for: they are served between two requests of ours."""
        for seat in self._hand.idle():
            if seat.contested(idle=idle):
                self._seats.leave(seat)

    def _end_if_over(self) -> None:
        for attempt in tuple(self._hand.attempts.values()):
            if _scored(self._log.run, attempt.job):  # by an import
                self._hand.drop(attempt, leave=True)
        limit = self._settings.evaluating.stall_seconds
        reason = f"the evaluator showed no sign of life for {limit:.0f} s and was ended"
        for seat, _ in self._hand.silent(limit):
            self._share_failed(seat, Failed("hung", reason))

    def _share_failed(self, seat: Seat, failed: Failed) -> None:
        """Let others go on with what an evaluator lacks, if it is its own fault; else all fail."""
        hand, share = self._hand, self._hand.shares[seat]
        attempt = share.attempt
        hand.end(seat)
        if failed.kind in ("internal", "hung"):
            self._seats.leave(seat)  # nobody knows what it holds now
        if share.unwanted:
            return
        attempt.take_back(share, failed)
        if failed.kind not in OF_CHECKPOINT and (hand.of(attempt) or attempt.proven):
            told = f"{attempt.job.title}: {share.place}: {failed.reason}"
            self._log.say(f"{told}; another slot goes on" if attempt.lacks else told)
            self._end_if_whole(attempt)
        else:
            self._failed(attempt.job.work, failed.kind, failed.reason)

    def _end_if_whole(self, attempt: Attempt) -> None:
        if not (attempt.lacks or self._hand.of(attempt)) and attempt.job.id in self._hand.attempts:
            self._hand.drop(attempt)
            if attempt.whole:
                self._judgements.ask(*attempt.finished())

    def _failed(self, work: Pending, kind: FailureKind, reason: str) -> None:
        run, settings = self._log.run, self._settings
        checkpoint, id_ = work.checkpoint, work.id
        if attempt := self._hand.attempts.get(id_):
            self._hand.drop(attempt)
        new = failure(
            *(run, checkpoint, work.protocol, kind, reason, self._clock()),
            attempts=settings.evaluating.max_attempts,
            batch_size=settings.compute.batch_size,
            luck=self._luck(),
        )
        self._log.record_evaluation(id_, *new)
        if kind == "vanished" and self._log.run.checkpoints[checkpoint.name] == checkpoint:
            self._log.record_run(vanished(checkpoint))


def _scored(run: Run, job: Job) -> bool:
    known = run.evaluations.get(job.id)
    return known is not None and known.state == "scored"


def _work(settings: Settings) -> tuple[object, ...]:
    """Return what an evaluation in hand goes by."""
    asked = (settings.evaluating.ending, settings.staging.stage)
    return (settings.protocols, settings.compute, *asked)
