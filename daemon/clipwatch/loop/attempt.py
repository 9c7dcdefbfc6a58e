"""One attempt at an evaluation: what is asked of the evaluator, and what it says written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clipwatch.domain.attempts import started
from clipwatch.domain.events import ImageScore, ImagesScored
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.executors.base import EvaluatorHandle, Slot
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working
from clipwatch.loop.run_log import RunLog
from clipwatch.models.memory import needed, outlook
from clipwatch.settings import Settings
from clipwatch.staging import Held
from clipwatch.statistics.sequential import Followed


class Attempt:
    """Follows one job from its request to its end.

    Args:
        job: What is evaluated.
        evaluator: That has it in hand.
        log: Gets what happens.
        precision: The mean need be known only so closely; None to score every image.
        earlier: The images of earlier attempts, needed only with a precision.
    """

    def __init__(
        self,
        job: Job,
        evaluator: EvaluatorHandle,
        log: RunLog,
        precision: float | None,
        earlier: tuple[ImageScore, ...] = (),
    ) -> None:
        self.job = job
        self._evaluator = evaluator
        self._log = log
        images = job.protocol.images_per_prompt
        self._followed = None if precision is None else Followed(images, precision)
        self._follow(earlier)

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard or seen of it."""
        return self._evaluator.silent_seconds

    def begin(self, request: Evaluate) -> None:
        """Hand the job over."""
        self._evaluator.evaluate(request)
        place = f" on {self.job.slot.title}" if self.job.slot.title else ""
        self._log.say(f"{self.job.title}: loading{place}")
        self._log.working(self.job.title, f"loading{place}")

    def heard(self, reply: Reply) -> Finished | Failed | None:
        """Write down what the evaluator says; return what ends the attempt."""
        job = self.job
        match reply:
            case Working(doing):
                self._log.working(job.title, doing)
            case Loaded(environment):
                begun = started(job.checkpoint, job.work.protocol, environment)
                self._log.record_evaluation(job.id, begun)
                self._show()
            case Scored(images):
                kept = tuple(replace(it, image=_below(job.id, it.image)) for it in images)
                self._log.record_evaluation(job.id, ImagesScored(job.id, kept))
                self._follow(kept)
                self._evaluator.kept(enough=self._enough)
                self._show()
            case Finished():
                if not self._enough:
                    return Failed("internal", f"only {self._done} images were scored")
                said = f"{self._done} images scored, its result follows"
                self._log.say(f"{job.title}: {said}")
                return reply
            case Failed(kind, reason):
                return Failed(kind, job.told(reason))
        return None

    @property
    def _done(self) -> int:
        return len(self._log.run.evaluations[self.job.id].done)

    def _show(self) -> None:
        done, total = self._done, _images(self.job.protocol)
        self._log.working(self.job.title, f"{done} of {total} images", done, total)

    def _follow(self, images: tuple[ImageScore, ...]) -> None:
        if self._followed is not None:
            self._followed.add((it.prompt_id, it.index, it.score) for it in images)

    @property
    def _enough(self) -> bool:
        """Whether all is there, as some may be imported meanwhile, or the mean is known enough."""
        known = self._followed is not None and self._followed.enough
        return known or self._done == _images(self.job.protocol)


def request(
    settings: Settings,
    job: Job,
    held: Held,
    done: tuple[tuple[str, int], ...],
    images: Path,
    batch: tuple[int, int],
) -> Evaluate:
    """Return what the evaluator is asked.

    Args:
        settings: Of the run.
        job: What is evaluated, and where.
        held: The checkpoint as it can be read.
        done: What earlier attempts scored.
        images: The folder for the run's images.
        batch: The size to begin with, and up to which a better one may be looked for.
    """
    size, limit = batch
    return Evaluate(
        path=held.path,
        kind=job.checkpoint.weights.kind,
        component=job.checkpoint.component,
        files=held.files,
        protocol=job.protocol,
        done=done,
        images_dir=str(images / job.id),
        device=job.slot.device,
        batch_size=size,
        batch_limit=limit,
        stratified=settings.evaluating.precision is not None,
        attention=settings.compute.attention,
        gpu=job.slot.gpu,
        memory_gib=settings.compute.gpu_memory_gib,
        share=settings.compute.share_gpu,
        cache_dir=str(settings.paths.state_dir / "embeddings"),
        image_format=settings.evaluating.image_format,
    )


def memory_told(settings: Settings, slot: Slot) -> str:
    """Say what the models will take of a slot's memory, "" where one of both is not known."""
    need = needed(settings.protocol, settings.compute.batch_size or 1)
    if not need or slot.free_bytes is None:
        return ""
    most = settings.compute.gpu_memory_gib if slot.gpu else None
    free = slot.free_bytes if most is None else min(slot.free_bytes, most * 2**30)
    return outlook(settings.protocol, need, free)


def _images(protocol: EvaluationProtocol) -> int:
    return len(protocol.prompts) * protocol.images_per_prompt


def _below(evaluation: str, image: str | None) -> str | None:
    return None if image is None else f"{evaluation}/{image}"
