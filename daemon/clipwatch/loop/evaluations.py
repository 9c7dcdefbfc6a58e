"""Evaluations one after the other: kept from rotation, evaluated, and what came of each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from errno import EAGAIN, EDQUOT, ENOMEM, ENOSPC

import psutil

from clipwatch.domain.events import (
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
)
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.queue import due as due_
from clipwatch.domain.queue import queue, vanished
from clipwatch.domain.retries import PATIENT, batch_sizes, retry_at
from clipwatch.domain.state import BASE, Checkpoint, Key, evaluation_id, evaluation_of
from clipwatch.executors.child import EvaluatorHandle
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working
from clipwatch.gpus import Gpu, Refusal, choose_gpu
from clipwatch.kit.filesystems import make_private
from clipwatch.loop.diary import Diary
from clipwatch.loop.judgements import Judging
from clipwatch.models.memory import needed, outlook
from clipwatch.results.reading import images_of, scores_of
from clipwatch.settings import Settings
from clipwatch.settings.simpletuner.rules import mistaken
from clipwatch.staging import Held, Stage, Staged
from clipwatch.statistics.sequential import Followed

SHORTAGES = {ENOSPC: "disk", EDQUOT: "disk", ENOMEM: "memory", EAGAIN: "memory"}
"""What an evaluator that cannot even be started fails for."""

GPU_SECONDS = 30.0
"""Pause between two looks for a GPU while evaluations wait for one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Message: an evaluator's reply; `child` tells which one's, from 1."""

    child: int
    reply: Reply


class Evaluating:
    """Keeps one evaluator busy with the checkpoints that are due; used from the loop's thread.

    Args:
        settings: Of the run.
        diary: Gets what happens.
        send: Takes the messages that belong to `heard` and `staged`, from any thread.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses.
        make_evaluator: Starts an evaluator that gives its replies to the function it is passed.
        judging: Takes what is finished.
    """

    def __init__(
        self,
        settings: Settings,
        diary: Diary,
        send: Callable[[Heard | Staged], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
        make_evaluator: Callable[[Callable[[Reply], None]], EvaluatorHandle],
        judging: Judging,
    ) -> None:
        self._settings = settings
        self._diary = diary
        self._send = send
        self._clock = clock
        self._luck = luck
        self._make_evaluator = make_evaluator
        self._judging = judging
        self._child: EvaluatorHandle | None = None
        self._children = 0
        self._gpu: Gpu | None = None  # the child's, once one is chosen
        self._looked: float | None = None  # for a GPU, by the clock that nobody sets
        self._job: Job | None = None
        self._awaited = ""  # the checkpoint that is evaluated as soon as it is kept
        self._images = images_of(settings.state_dir, diary.name)
        self._stage = self._new_stage()

    @property
    def busy(self) -> bool:
        """Whether an evaluation is in hand, or being judged."""
        return self._job is not None or bool(self._judging.keys)

    @property
    def held(self) -> frozenset[Key]:
        """What can be evaluated though its folder may be gone."""
        own = {self._job.key} if self._job else set()
        return self._stage.keys | self._judging.keys | own

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from here on; what they would make another is dropped."""
        old, self._settings = self._settings, settings
        work = (
            *("protocol", "device", "share_gpu", "gpu_memory_gib"),
            *("attention", "batch_size", "precision", "stage"),
        )
        if any(getattr(old, name) != getattr(settings, name) for name in work):
            self._end_child()
            self._drop()
            self._looked = None
        if old.stage != settings.stage:
            self._stage.close()
            self._stage = self._new_stage()

    def close(self) -> None:
        """End the evaluator; what it has not reported is done again later."""
        self._end_child()
        self._stage.close()

    def advance(self, *, ready: bool) -> None:
        """End an evaluator that hangs; take up the next checkpoint if none is in hand.

        Args:
            ready: The models are here; else checkpoints are only kept from rotation.
        """
        self._look_for_gpu()
        job, child, limit = self._job, self._child, self._settings.stall_seconds
        if job is not None and child is not None and child.silent_seconds > limit:
            reason = f"the evaluator showed no sign of life for {limit:.0f} s and was ended"
            self._end_child()
            self._failed(job.id, job.checkpoint, "hung", reason)
        run = self._diary.run
        # while the protocol is unknown, whatever is whole will be due
        found = due_(run, self._clock()) if run.protocol else queue(run)
        due = [c for c in found if (c.name, c.digest) not in self._judging.keys]
        keys = self._stage.keys
        wanted = [self._job.checkpoint] if self._job else []
        wanted += [c for c in due[: self._settings.stage_limit] if c not in wanted]
        if keys:  # what is kept and waits for another attempt is not let go
            kept = (c for c in queue(self._diary.run) if (c.name, c.digest) in keys)
            wanted += [c for c in kept if c not in wanted]
        wanted = [c for c in wanted if c.kind != BASE]
        self._stage.want(wanted[: self._settings.stage_limit])
        first = due[0] if ready and self._job is None and due else None
        held = self._held(first) if first else None
        self._wait_for(first.name if first and held is None else "")
        if first and held:
            self._start(first, held)

    def _wait_for(self, name: str) -> None:
        if name == self._awaited:
            return
        if self._awaited:
            self._diary.rested(self._awaited)
        if name:
            self._diary.working(name, "keeping it from deletion")
        self._awaited = name

    def _held(self, checkpoint: Checkpoint) -> Held | None:
        if checkpoint.kind == BASE:  # which no trainer deletes
            return Held(checkpoint.path, (), "in place")
        return self._stage.held(checkpoint)

    def staged(self, message: Staged) -> None:
        """Write down why a checkpoint could not be kept; a kept one is taken up when it is due."""
        checkpoint = message.checkpoint
        known = self._diary.run.checkpoints.get(checkpoint.name)
        if message.problem and known == checkpoint and known in queue(self._diary.run):
            id_ = evaluation_id(checkpoint, self._diary.run.protocol)
            self._failed(id_, checkpoint, message.kind, message.problem)

    def heard(self, message: Heard) -> None:
        """Write down what the evaluator says of the checkpoint it has in hand."""
        job = self._job
        if job is None or message.child != self._children:
            return  # the last words of one that was ended
        match message.reply:
            case Working(doing):
                self._diary.working(job.checkpoint.name, doing)
            case Loaded(environment):
                self._diary.record_evaluation(
                    job.id, self._started(job.id, job.checkpoint, environment)
                )
                self._show(job)
            case Scored(images):
                kept = tuple(replace(it, image=_below(job.id, it.image)) for it in images)
                self._diary.record_evaluation(job.id, ImagesScored(job.id, kept))
                if job.followed:
                    job.followed.add(_cells(kept))
                if self._child is not None:
                    self._child.kept(enough=job.enough)
                self._show(job)
            case Finished():
                self._finished(job, message.reply)
            case Failed(kind, reason):
                if kind == "internal":
                    self._end_child()  # nobody knows what it holds now
                self._failed(job.id, job.checkpoint, kind, job.told(reason))

    def prune(self, wanted: set[str]) -> None:
        """Delete the images of all but the newest evaluations and those `wanted`."""
        keep = self._settings.keep_images
        run = self._diary.run
        scored = run.scored.get(run.protocol, ())
        for id_ in scored[: max(0, len(scored) - keep)] if keep >= 0 else ():
            if id_ not in wanted:
                shutil.rmtree(self._images / id_, ignore_errors=True)

    def _start(self, checkpoint: Checkpoint, held: Held) -> None:
        settings, run = self._settings, self._diary.run
        if self._child is not None and not self._child.alive:
            self._end_child()  # which closes what is left of it
        evaluation = evaluation_of(run, checkpoint)
        id_ = evaluation_id(checkpoint, run.protocol)
        done = tuple(sorted(evaluation.done)) if evaluation else ()
        size, limit = batch_sizes(run, evaluation, settings.batch_size)
        followed = None
        if settings.precision is not None:
            followed = Followed(settings.protocol.images_per_prompt, settings.precision)
            if done:
                images = scores_of(self._diary.path, self._diary.name, id_, settings.protocol)
                followed.add(_cells(images))
        job = Job(id_, checkpoint, settings.protocol, len(done), held.path, followed)
        try:
            make_private(self._images / job.id)
            if self._child is None:
                chosen = choose_gpu(settings)
                if isinstance(chosen, Refusal):
                    self._failed(job.id, checkpoint, "device", str(chosen))
                    return
                self._child, self._gpu = self._new_child(), chosen.gpu
                self._tell_memory(job.protocol)
        except OSError as error:
            reason = f"no evaluator can be started: {error}"
            kind = SHORTAGES.get(error.errno or 0, "internal")
            self._failed(job.id, checkpoint, kind, reason)
            return
        self._job = job
        self._child.evaluate(
            Evaluate(
                path=held.path,
                kind=checkpoint.kind,
                component=checkpoint.component,
                files=held.files,
                protocol=job.protocol,
                done=done,
                images_dir=str(self._images / job.id),
                device="cuda" if self._gpu else settings.device,
                batch_size=size,
                batch_limit=limit,
                stratified=settings.precision is not None,
                attention=settings.attention,
                gpu=self._gpu.uuid if self._gpu else "",
                memory_gib=settings.gpu_memory_gib,
                share=settings.share_gpu,
                cache_dir=str(settings.state_dir / "embeddings"),
            )
        )
        if remark := mistaken(settings, checkpoint.kind):
            self._diary.say(f"{checkpoint.name}: {remark}")
        place = f" on {self._gpu}" if self._gpu else ""
        self._diary.say(f"{checkpoint.name}: loading{place}")
        self._diary.working(checkpoint.name, f"loading{place}")

    def _tell_memory(self, protocol: EvaluationProtocol) -> None:
        """Say what the models will take before the first image is made."""
        if need := needed(protocol, self._settings.batch_size or 1):
            free = self._gpu.free_bytes if self._gpu else psutil.virtual_memory().available
            most = self._settings.gpu_memory_gib
            bound = free if most is None or not self._gpu else min(free, most * 2**30)
            self._diary.say(outlook(protocol, need, bound))

    def _look_for_gpu(self) -> None:
        """Say at first if no GPU may be used; later, see whether what waits for one may go on."""
        run, now, moment = self._diary.run, self._clock(), time.monotonic()
        first = self._looked is None
        if self._looked is not None and moment - self._looked < GPU_SECONDS:
            return
        self._looked = moment
        known = (evaluation_of(run, checkpoint) for checkpoint in queue(run))
        waiting = [
            it for it in known if it and it.kind == "device" and it.retry_at and it.retry_at > now
        ]
        if not first and not waiting:
            return
        chosen = choose_gpu(self._settings)
        if not isinstance(chosen, Refusal):
            for evaluation in waiting:
                again = EvaluationReopened(evaluation.id, now)
                self._diary.record_evaluation(evaluation.id, again)
        elif first:
            self._diary.say(f"evaluations wait: {chosen}")

    def _started(
        self, id_: str, checkpoint: Checkpoint, environment: dict[str, str]
    ) -> EvaluationStarted:
        known = (id_, checkpoint.name, checkpoint.step, checkpoint.digest)
        return EvaluationStarted(*known, self._diary.run.protocol, environment)

    def _new_child(self) -> EvaluatorHandle:
        self._children += 1
        number = self._children
        return self._make_evaluator(lambda reply: self._send(Heard(number, reply)))

    def _finished(self, job: Job, said: Finished) -> None:
        done = len(self._diary.run.evaluations[job.id].done)
        if done != _images(job.protocol) and not job.enough:
            reason = f"only {done} images were scored"
            self._failed(job.id, job.checkpoint, "internal", reason)
            return
        self._drop()
        self._diary.say(f"{job.checkpoint.name}: {done} images scored, its result follows")
        self._judging.ask(job, said)

    def _failed(self, id_: str, checkpoint: Checkpoint, kind: str, reason: str) -> None:
        if self._job is not None and self._job.id == id_:
            self._drop()
        new: list[Event] = []
        evaluation = self._diary.run.evaluations.get(id_)
        if evaluation is None:  # it failed before it was loaded
            new.append(self._started(id_, checkpoint, {}))
        patient = kind in PATIENT
        alike = evaluation is not None and (evaluation.kind in PATIENT) == patient
        # to have waited for a GPU or a disk costs none of the attempts
        attempt = 1 + (evaluation.attempt if evaluation and alike else 0)
        again = retry_at(
            kind,
            attempt,
            self._clock(),
            attempts=self._settings.max_attempts,
            batch_size=max(batch_sizes(self._diary.run, evaluation, self._settings.batch_size)),
            luck=self._luck(),
        )
        new.append(EvaluationFailed(id_, kind, reason, attempt, again))
        self._diary.record_evaluation(id_, *new)
        if kind == "vanished" and self._diary.run.checkpoints[checkpoint.name] == checkpoint:
            self._diary.record_run(vanished(checkpoint))

    def _show(self, job: Job) -> None:
        done, total = len(self._diary.run.evaluations[job.id].done), _images(job.protocol)
        self._diary.working(job.checkpoint.name, f"{done} of {total} images", done, total)

    def _drop(self) -> None:
        if self._job is not None:
            self._diary.rested(self._job.checkpoint.name)
            self._job = None

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _new_stage(self) -> Stage:
        folder = self._settings.state_dir / "staged" / self._diary.name
        return Stage(folder, self._settings.stage, self._send)


def _cells(images: Iterable[ImageScore]) -> Iterator[tuple[str, int, float]]:
    return ((it.prompt_id, it.index, it.score) for it in images)


def _images(protocol: EvaluationProtocol) -> int:
    return len(protocol.prompts) * protocol.images_per_prompt


def _below(evaluation: str, image: str | None) -> str | None:
    return None if image is None else f"{evaluation}/{image}"
