"""Evaluations one after the other: kept from rotation, evaluated, and what came of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from errno import EAGAIN, EDQUOT, ENOMEM, ENOSPC
from pathlib import Path

from clipwatch.domain.attempts import failure
from clipwatch.domain.events import ImageScore
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.queue import Pending, pending, to_keep, vanished
from clipwatch.domain.queue import due as due_
from clipwatch.domain.retries import batch_sizes
from clipwatch.domain.state import Checkpoint, CheckpointKey, Run, protocols_of
from clipwatch.domain.strengths import title
from clipwatch.executors.base import Executor
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Failed, Finished
from clipwatch.kit.filesystems import make_private
from clipwatch.loop.attempt import Attempt, memory_told, request
from clipwatch.loop.judgements import Judgements
from clipwatch.loop.run_log import RunLog
from clipwatch.loop.slots import Heard, Pool, Seat
from clipwatch.loop.vacancies import Vacancies
from clipwatch.results.reading import images_of, scores_of
from clipwatch.settings import Settings
from clipwatch.settings.simpletuner.rules import mistaken
from clipwatch.staging import Held, Stage, Staged

SHORTAGES: dict[int, FailureKind] = {
    ENOSPC: "disk",
    EDQUOT: "disk",
    ENOMEM: "memory",
    EAGAIN: "memory",
}
"""What an evaluator that cannot even be started fails for."""

_UNREAD = (
    "{} cannot be read where evaluations run: set stage to copy, and state_dir to a folder that is "
    "seen there"
)


class Evaluations:
    """Keeps one evaluator busy with the checkpoints that are due; used from the loop's thread.

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
        self._settings, self._log, self._send = settings, log, send
        self._clock, self._luck = clock, luck
        self._judgements, self._lacks = judgements, lacks
        self._seat = Seat(log.name, executor, pool, send)
        self._attempt: Attempt | None = None
        self._vacancies = Vacancies(log, clock)
        self._awaited = ""  # the checkpoint that is evaluated as soon as it is kept
        self._stage = self._new_stage()

    @property
    def busy(self) -> bool:
        """Whether an evaluation is in hand, or being judged."""
        return self._attempt is not None or bool(self._judgements.keys)

    @property
    def held(self) -> frozenset[CheckpointKey]:
        """What can be evaluated though its folder may be gone."""
        own = {self._attempt.job.key} if self._attempt else set()
        return self._stage.keys | self._judgements.keys | own

    def adopt(self, settings: Settings, executor: Executor | None = None) -> None:
        """Work by these settings from here on; what they would make another is dropped.

        With an executor also in its slots.
        """
        old, self._settings = self._settings, settings
        if _work(old) != _work(settings):
            self._seat.leave()
            self._drop()
            self._vacancies.reset()
        self._seat.executor = executor or self._seat.executor
        if old.staging.stage != settings.staging.stage:
            self._stage.close()
            self._stage = self._new_stage()

    def close(self) -> None:
        """End the evaluator; what it has not reported is done again later."""
        self._seat.wait_no_more()
        self._seat.leave()
        self._stage.close()

    def advance(self, *, ready: bool) -> None:
        """End what hangs, or was imported meanwhile; take up the next one if none is in hand.

        Args:
            ready: The models are here; else checkpoints are only kept from rotation.
        """
        self._vacancies.look(self._seat.executor)
        self._end_if_idle()
        run, attempt = self._log.run, self._attempt
        found = due_(run, self._clock()) if run.protocol else pending(run)
        there = (it for it in found if not self._lacks(it.checkpoint))
        due = [it for it in there if it.id not in self._judgements.ids]
        in_hand = attempt.job.checkpoint if attempt else None
        most = self._settings.staging.stage_limit
        self._stage.want(to_keep(run, in_hand, due, self._stage.keys, most))
        if attempt is None and self._seat.contested:
            self._seat.leave()
        first = due[0] if ready and attempt is None and due else None
        held = self._held(first.checkpoint) if first else None
        self._wait_for(first.checkpoint.name if first and held is None else "")
        if first and held:
            self._start(first, held)
        else:
            self._seat.wait_no_more()

    def staged(self, message: Staged) -> None:
        """Write down why a checkpoint could not be kept; a kept one is taken up when it is due."""
        checkpoint = message.checkpoint
        known = self._log.run.checkpoints.get(checkpoint.name)
        if message.kind and known == checkpoint:
            for it in pending(self._log.run):
                if it.checkpoint == checkpoint and it in pending(self._log.run):  # not yet gone
                    self._failed(it, message.kind, message.problem)

    def heard(self, message: Heard) -> None:
        """Write down what the evaluator says of the checkpoint it has in hand."""
        if self._attempt is None or not self._seat.current(message):
            return  # the last words of one that was ended
        job = self._attempt.job
        match self._attempt.heard(message.reply):
            case Finished() as said:
                self._drop()
                self._judgements.ask(job, said)
            case Failed(kind, reason):
                if kind == "internal":
                    self._seat.leave()  # nobody knows what it holds now
                self._failed(job.work, kind, reason)

    def _end_if_idle(self) -> None:
        attempt, limit = self._attempt, self._settings.evaluating.stall_seconds
        if attempt is not None and _scored(self._log.run, attempt.job):  # by an import
            self._seat.leave()
            self._drop()
        elif attempt is not None and attempt.silent_seconds > limit:
            reason = f"the evaluator showed no sign of life for {limit:.0f} s and was ended"
            self._seat.leave()
            self._failed(attempt.job.work, "hung", reason)

    def _wait_for(self, name: str) -> None:
        if name == self._awaited:
            return
        if self._awaited:
            self._log.rested(self._awaited)
        if name:
            self._log.working(name, "keeping it from deletion")
        self._awaited = name

    def _held(self, checkpoint: Checkpoint) -> Held | None:
        if checkpoint.is_base:  # which no trainer deletes
            return Held(checkpoint.path, (), "in place")
        return self._stage.held(checkpoint)

    def _start(self, work: Pending, held: Held) -> None:
        settings, run, seat = self._settings, self._log.run, self._seat
        checkpoint, id_ = work.checkpoint, work.id
        evaluation = run.evaluations.get(id_)
        images = images_of(settings.paths.state_dir, self._log.name)
        had = seat.evaluator
        try:
            make_private(images / id_)
            refusal = seat.take()
            readable = checkpoint.is_base or seat.executor.reads(Path(held.path))
        except OSError as error:
            kind = SHORTAGES.get(error.errno or 0, "internal")
            self._failed(work, kind, f"no evaluator can be started: {error}")
            return
        if refusal is not None:
            self._failed(work, "device", str(refusal))
            return
        if seat.evaluator is None or seat.slot is None:  # others have it: our turn will come
            return
        if not readable:
            self._failed(work, "stage", _UNREAD.format(held.path))
            return
        if seat.evaluator is not had and (told := memory_told(settings, seat.slot)):
            self._log.say(told)  # before the first image is made
        done = tuple(sorted(evaluation.done)) if evaluation else ()
        protocol = run.protocols[work.protocol]
        job = Job(work, protocol, title(run, id_), len(done), held.path, seat.slot)
        earlier: tuple[ImageScore, ...] = ()
        precision = settings.evaluating.precision
        if precision is not None and done:
            earlier = scores_of(self._log.path, self._log.name, id_, protocol)
        self._attempt = Attempt(job, seat.evaluator, self._log, precision, earlier)
        if remark := _of_strength(run, checkpoint) or mistaken(settings, checkpoint.weights.kind):
            self._log.say(f"{job.title}: {remark}")
        batch = batch_sizes(run, evaluation, settings.compute.batch_size)
        self._attempt.begin(request(settings, job, held, done, images, batch))

    def _failed(self, work: Pending, kind: FailureKind, reason: str) -> None:
        run, settings = self._log.run, self._settings
        checkpoint, id_ = work.checkpoint, work.id
        if self._attempt is not None and self._attempt.job.id == id_:
            self._drop()
        new = failure(
            *(run, checkpoint, work.protocol, kind, reason, self._clock()),
            attempts=settings.evaluating.max_attempts,
            batch_size=settings.compute.batch_size,
            luck=self._luck(),
        )
        self._log.record_evaluation(id_, *new)
        if kind == "vanished" and self._log.run.checkpoints[checkpoint.name] == checkpoint:
            self._log.record_run(vanished(checkpoint))

    def _drop(self) -> None:
        if self._attempt is not None:
            self._log.rested(self._attempt.job.title)
            self._attempt = None

    def _new_stage(self) -> Stage:
        folder = self._settings.paths.state_dir / "staged" / self._log.name
        return Stage(folder, self._settings.staging.stage, self._send)


def _scored(run: Run, job: Job) -> bool:
    known = run.evaluations.get(job.id)
    return known is not None and known.state == "scored"


def _of_strength(run: Run, checkpoint: Checkpoint) -> str:
    """Say that several strengths are none for a checkpoint that is no adapter; else ""."""
    once = run.beside and len(protocols_of(run, checkpoint)) == 1
    return "it has no strength, and is scored once" if once else ""


def _work(settings: Settings) -> tuple[object, ...]:
    """Return what an evaluation in hand goes by."""
    asked = (settings.evaluating.precision, settings.staging.stage)
    return (settings.protocols, settings.compute, *asked)
