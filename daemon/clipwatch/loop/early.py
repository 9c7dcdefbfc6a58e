"""What may end an evaluation before its last image: its mean, or its difference to another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from clipwatch.domain.decided import Reference
from clipwatch.domain.deciding import BASE, BEST, named_reference, reference_of, worth_of
from clipwatch.domain.events import ImageScore
from clipwatch.domain.queue import Pending
from clipwatch.journal.projection import state_of
from clipwatch.loop.run_log import RunLog
from clipwatch.models.scorers import scales_of
from clipwatch.results.reading import read_images
from clipwatch.results.tables import score_table
from clipwatch.settings import Settings
from clipwatch.statistics.anytime import Differing
from clipwatch.statistics.scores import prompt_means
from clipwatch.statistics.sequential import Followed, half_width, student_half_width


class Follower(Protocol):
    """Whoever says while images come whether there are enough."""

    @property
    def enough(self) -> bool:
        """Whether no further image is needed."""

    def add(self, scores: Iterable[tuple[str, int, float]]) -> None:
        """Take images into account: prompt id, image index and score of each; none comes twice."""


@dataclass(frozen=True, slots=True)
class Early:
    """How an evaluation may end before its last image.

    Attributes:
        follower: Says when.
        reference: With what it is compared, None for nothing.
    """

    follower: Follower
    reference: Reference | None = None

    def add(self, images: Iterable[ImageScore]) -> None:
        """Take images into account."""
        self.follower.add((it.prompt_id, it.index, it.score) for it in images)


def early(settings: Settings, log: RunLog, work: Pending) -> Early | None:
    """Return what may end an evaluation early, told of the images that it has; None for nothing.

    Raises:
        JournalError: The log cannot be read.
    """
    evaluating, found = settings.evaluating, None
    images = log.run.protocols[work.protocol].images_per_prompt
    if evaluating.precision is not None:
        width = student_half_width if evaluating.precision_interval == "student" else half_width
        found = Early(Followed(images, evaluating.precision, width))
    elif evaluating.decide == "difference":
        found = _differing(settings, log, work, images)
    if found and work.id in log.run.evaluations:
        found.add(_images(log, log.name, work.id))
    return found


def _differing(settings: Settings, log: RunLog, work: Pending, images: int) -> Early | None:
    """Return what tells the difference to the reference; None for what is made wholly."""
    reference = _reference(log, work, settings.evaluating.decide_against)
    if reference is None:
        return None
    run = log.run
    told = run.evaluations[run.scored[work.protocol][-1]].environment  # alike in all of them
    scale = scales_of(run.protocols[work.protocol], told)[""]
    worth = worth_of(settings.advice.worth, scale)
    if worth is None:
        log.say("which difference matters is not known: set advice.worth; all images are made")
        return None
    scores = score_table(_images(log, reference.run or log.name, reference.evaluation))
    go_on = settings.evaluating.decide_against == BEST
    follower = Differing(images, prompt_means(scores), worth, scale.tie, go_on=go_on)
    return Early(follower, reference)


def _reference(log: RunLog, work: Pending, against: str) -> Reference | None:
    run = log.run
    if work.checkpoint.is_base:
        return None
    found = reference_of(run, work.protocol, work.id, BASE if against == BASE else BEST)
    begun = run.evaluations.get(work.id)
    if found is None or against in (BEST, BASE) or (begun and begun.reference):
        return found
    name = against.rpartition("@")[0]  # of years and of many runs the others are not read
    state = log.read(lambda it: state_of(it, name)) if name else {run.name: run}
    named = named_reference(state, run.name, work.protocol, against)
    if named is None:
        log.say(f"{against} has no score by the same protocol: all images are made")
    return named


def _images(log: RunLog, run: str, evaluation: str) -> tuple[ImageScore, ...]:
    """Return images in the order in which they came."""
    return log.read(lambda journal: read_images(journal, run, evaluation, further=False))
