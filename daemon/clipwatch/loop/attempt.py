"""One attempt at an evaluation: what is asked of evaluators, and what they say written down."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from clipwatch.domain.allot import Image
from clipwatch.domain.attempts import started
from clipwatch.domain.events import ImagesScored
from clipwatch.domain.fold import joined_texts
from clipwatch.domain.losses import LossMeasured, LossNotMeasured, LossSets
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.retries import CRAMPED
from clipwatch.executors.base import EvaluatorHandle, Slot
from clipwatch.executors.job import Job
from clipwatch.executors.messages import (
    Evaluate,
    Failed,
    Finished,
    Loaded,
    Measured,
    Reply,
    Scored,
    Working,
)
from clipwatch.loop.early import Early
from clipwatch.loop.run_log import RunLog
from clipwatch.models.memory import needed, outlook
from clipwatch.prompts import stratified
from clipwatch.settings import Settings
from clipwatch.staging import Held

_LOST: frozenset[str] = CRAMPED | {"internal"}
"""Kinds of failure of which measuring a loss may be the cause."""


@dataclass(slots=True, eq=False)
class Share:
    """What one evaluator has in hand of an evaluation: all of it, where there is one slot.

    Attributes:
        attempt: At the evaluation.
        evaluator: That has it in hand.
        slot: Where.
        images: Those that it is asked for.
        beside: The most slots of the run that were at work while it was, with its own.
        made: So many of its images are there.
        unwanted: The evaluation has ended without it; it comes to its own end.
    """

    attempt: Attempt
    evaluator: EvaluatorHandle
    slot: Slot
    images: tuple[Image, ...]
    beside: int = 1
    made: int = 0
    unwanted: bool = False

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self.slot.title or self.slot.name


class Attempt:
    """Follows one job from its first request to its end.

    Args:
        job: What is evaluated.
        held: The checkpoint as it can be read.
        log: Gets what happens.
        early: What may end it before its last image; None for nothing.
        several: The run may use several slots: each is told with what it has in hand.
        most: So many of its images, the first ones, are made for now; None for all.

    Attributes:
        every: All images, by the names of their prompts.
        left: The images that lack and that no evaluator has in hand.
        barred: Names of the slots that have failed without an image of it, or twice.
        failed: Why a slot did, each time, the last one last.
    """

    def __init__(
        self,
        job: Job,
        held: Held,
        log: RunLog,
        early: Early | None = None,
        *,
        several: bool = False,
        most: int | None = None,
    ) -> None:
        self.job, self.held = job, held
        self._log, self._several = log, several
        known = log.run.evaluations.get(job.id)
        done = known.done if known else frozenset()
        self._early = early
        images = in_order(job.protocol, early=early is not None or most is not None)
        self._images = images[:most]
        self.every = sorted(images)
        self.left = tuple(it for it in self._images if it not in done)
        self.barred: set[str] = set()
        self.failed: list[Failed] = []
        self._once: set[str] = set()  # names of the slots that have failed
        self._measuring = False  # somebody was asked to
        self._environment: set[tuple[str, str]] | None = None  # as it is written down
        self._lost = 0  # images of evaluators that did not come to their end
        self._ended: list[tuple[Finished, int]] = []  # with how many slots were at work

    @property
    def lacks(self) -> bool:
        """Whether there is something to ask an evaluator for."""
        return not (self.enough or self._done.issuperset(self.left))

    @property
    def whole(self) -> bool:
        """Whether nothing lacks, now or later: its result follows."""
        return self.enough or self._done.issuperset(self.every)

    @property
    def proven(self) -> bool:
        """Whether an evaluator came to the end of its share."""
        return bool(self._ended)

    @property
    def cramped(self) -> int:
        """How many of the failures a smaller batch may mend."""
        return sum(it.kind in CRAMPED for it in self.failed)

    @property
    def enough(self) -> bool:
        """Whether what was asked for is known without the images that lack."""
        return self._early is not None and self._early.follower.enough

    def begin(self, share: Share, request: Evaluate) -> None:
        """Hand a share of the job over: its images are no longer `left`."""
        own = set(share.images)
        self.left = tuple(it for it in self.left if it not in own)
        place = f" on {share.slot.title}" if share.slot.title else ""
        whole = len(share.images) + self.job.had == len(self._images)
        part = "" if whole else f", {len(share.images)} of {len(self._images)} images"
        share.evaluator.evaluate(request)
        self._log.say(f"{self.job.title}: loading{place}{part * self._several}")
        if self._several:
            self._log.working(share.place, f"{self.job.title}: loading")
        else:
            self._log.working(self.job.title, f"loading{place}")

    def heard(self, share: Share, reply: Reply) -> Finished | Failed | None:
        """Write down what an evaluator says; return what ends its share."""
        job = self.job
        match reply:
            case Working(doing) if self._several:
                self._log.working(share.place, f"{job.title}: {doing}")
            case Working(doing):
                self._log.working(job.title, doing)
            case Loaded(environment):
                self._loaded(environment)
                self._show(share)
            case Measured():
                self._log.record_evaluation(job.id, _told(job, reply))
            case Scored(images):
                kept = tuple(replace(it, image=_below(job.id, it.image)) for it in images)
                self._log.record_evaluation(job.id, ImagesScored(job.id, kept))
                share.made += len(kept)
                if self._early:
                    self._early.add(kept)
                over = share.made < len(share.images) and self._done.issuperset(share.images)
                share.evaluator.kept(enough=self.enough or over)  # over: the rest was imported
                self._show(share)
            case Finished():
                if not (self.enough or self._done.issuperset(share.images)):
                    return Failed("internal", f"only {len(self._done)} images were scored")
                self._ended.append((reply, share.beside))
                return reply
            case Failed(kind, reason):
                return Failed(kind, job.told(reason))
        return None

    def measures(self, sets: LossSets | None) -> LossSets | None:
        """Return what the next share is to measure: all of it once, unless that was done before.

        Nor where an evaluator was lost before it had measured: a score counts more than a loss.
        """
        known = self._log.run.evaluations.get(self.job.id)
        done = known is not None and known.losses is not None and known.losses.by
        asked, self._measuring = self._measuring, True
        if done or asked or sets is None:
            return None
        if known is not None and known.attempt and not known.done and known.kind in _LOST:
            if known.losses is None:
                reason = f"the evaluator failed before it was measured ({known.reason})"
                self._log.record_evaluation(self.job.id, LossNotMeasured(self.job.id, reason))
            return None
        return sets

    def take_back(self, share: Share, failed: Failed) -> None:
        """Have what a share lacks left for others, as its evaluator has failed.

        Its slot may come back to it once, if it has brought images.
        """
        done, own = self._done, {*self.left, *share.images}
        self.left = tuple(it for it in self._images if it in own and it not in done)
        self.failed.append(failed)
        self._measuring = False
        self._lost += share.made
        if not share.made or share.slot.name in self._once:
            self.barred.add(share.slot.name)
        self._once.add(share.slot.name)

    def finished(self) -> tuple[Job, Finished]:
        """Return the job, and what its evaluators said in the end as if it were one's word.

        The seconds are those of the run: what each slot took, divided by how many were at work
        meanwhile, be it on this evaluation or on others. So they add up to the time that passed.
        """
        said = [it for it, _ in self._ended]
        phases: dict[str, float] = {}
        made: dict[str, str] = {}
        for it, beside in self._ended:
            made = joined_texts(made, it.made)
            for name, seconds in it.phases.items():
                phases[name] = phases.get(name, 0.0) + seconds / beside
        self._log.say(f"{self.job.title}: {len(self._done)} images scored, its result follows")
        return replace(self.job, had=self.job.had + self._lost), Finished(
            truncated=max(it.truncated for it in said),  # of all prompts, whoever has them
            seconds=sum(it.seconds / beside for it, beside in self._ended),
            phases=phases,
            batch_size=min((it.batch_size for it in said if it.batch_size), default=0),
            made=made,
        )

    def _loaded(self, environment: dict[str, str]) -> None:
        """Write down that it has begun, and again only what is another on a further slot.

        Which of several equal GPUs makes an image decides nothing.
        """
        told = {it for it in environment.items() if it[0] != "gpu"}
        if self._environment is None or not told <= self._environment:
            begun = started(self.job.checkpoint, self.job.work.protocol, environment)
            reference = self._early.reference if self._early else None
            self._log.record_evaluation(self.job.id, replace(begun, reference=reference))
            self._environment = told | (self._environment or set())

    @property
    def _done(self) -> frozenset[Image]:
        known = self._log.run.evaluations.get(self.job.id)
        return known.done if known else frozenset()

    def _show(self, share: Share) -> None:
        done, total = len(self._done), len(self.every)
        self._log.working(self.job.title, f"{done} of {total} images", done, total)
        if self._several:
            self._log.working(share.place, self.job.title)


def in_order(protocol: EvaluationProtocol, *, early: bool) -> tuple[Image, ...]:
    """Return all images of an evaluation in the order in which they are made.

    `early`: it may end before its last image, so every beginning of it speaks for the whole.
    """
    if early:
        protocol = replace(protocol, prompts=tuple(stratified(protocol.prompts)))
    return tuple((prompt.id, index) for prompt, index, _ in protocol.images())


def request(
    settings: Settings,
    attempt: Attempt,
    slot: Slot,
    wanted: Collection[Image],
    images: Path,
    batch: tuple[int, int],
) -> Evaluate:
    """Return what an evaluator is asked.

    Args:
        settings: Of the run.
        attempt: At which evaluation.
        slot: Where the evaluator is.
        wanted: The images that it is to make; for it all others are done.
        images: The folder for the run's images.
        batch: The size to begin with, and up to which a better one may be looked for.
    """
    size, limit = batch
    job, held, own = attempt.job, attempt.held, set(wanted)
    return Evaluate(
        path=held.path,
        kind=job.checkpoint.weights.kind,
        component=job.checkpoint.component,
        files=held.files,
        protocol=job.protocol,
        done=tuple(it for it in attempt.every if it not in own),
        images_dir=str(images / job.id),
        device=slot.device,
        batch_size=size,
        batch_limit=limit,
        stratified=settings.evaluating.early,
        attention=settings.compute.attention,
        gpu=slot.gpu,
        memory_gib=settings.compute.gpu_memory_gib,
        share=settings.compute.share_gpu,
        cache_dir=str(settings.paths.state_dir / "embeddings"),
        image_format=settings.evaluating.image_format,
        losses=attempt.measures(settings.holding.sets),
    )


def memory_told(settings: Settings, slot: Slot) -> str:
    """Say what the models will take of a slot's memory, "" where one of both is not known."""
    need = needed(settings.protocol, settings.compute.batch_size or 1)
    if not need or slot.free_bytes is None:
        return ""
    most = settings.compute.gpu_memory_gib if slot.gpu else None
    free = slot.free_bytes if most is None else min(slot.free_bytes, most * 2**30)
    return outlook(settings.protocol, need, free)


def _below(evaluation: str, image: str | None) -> str | None:
    return None if image is None else f"{evaluation}/{image}"


def _told(job: Job, said: Measured) -> LossMeasured | LossNotMeasured:
    if said.protocol is None:
        return LossNotMeasured(job.id, job.told(said.problem))
    return LossMeasured(job.id, said.protocol, said.held, said.trained, said.seconds)
