"""What the scores of a run suggest to do. Pure; decides over the points of one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.kinds import AdviceKind, Unit
from clipwatch.domain.losses import LossMeasured
from clipwatch.domain.questions import Answered
from clipwatch.judging.base import Question
from clipwatch.statistics import Summary
from clipwatch.statistics.course import RECENT, fall, gain, lag
from clipwatch.statistics.means import Means
from clipwatch.statistics.nearness import chance
from clipwatch.statistics.scale import Near, Scale
from clipwatch.statistics.scores import Scores

ALIKE_BITS = 6
"""Images whose looks differ in no more of 64 bits pass for the same."""

ALIKE_SHARE, VARIED_SHARE = 0.9, 0.5
"""Share of pairs of images that are alike: of a collapsed model, and of one that is not."""

_FEWEST, _MOST = 8, 200
"""Prompts whose images are compared."""

BY_CHANCE = 1e-5
"""Images that chance has as near to training images as rarely as this are no chance: it is asked of
many checkpoints, and training images that are near to each other come in pairs."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scored checkpoint.

    Attributes:
        evaluation: Its id.
        step: The trainer's.
        clip: Its scores by the scorer that decides, summarised.
        scores: By scorer, by prompt; "" is the scorer that decides.
        looks: Of the first image of each prompt (see ImageScore.look), in any order.
        unit: What `step` counts.
        losses: On images that are always the same, None where they were not measured.
        answered: What answers to the prompts' questions come to, by scorer.
    """

    evaluation: str
    step: int
    clip: Summary
    scores: Mapping[str, Scores]
    looks: tuple[str, ...]
    unit: Unit = "step"
    losses: LossMeasured | None = None
    answered: dict[str, Answered] = field(default_factory=dict)


def worths(named: Mapping[str, float | None], scales: Mapping[str, Scale]) -> dict[str, float]:
    """Return scorer → the difference of means that matters; none for whom nobody knows it.

    Args:
        named: By the settings; None for a scorer that gives no advice.
        scales: Of all scorers, "" for the one that decides.
    """
    found = {name: named.get(name, scale.worth) for name, scale in scales.items()}
    return {name: it for name, it in found.items() if it is not None}


def advise(
    points: Sequence[Point],
    base: Point | None,
    question: Question,
    scales: Mapping[str, Scale],
    given: Sequence[AdviceGiven],
) -> tuple[AdviceGiven, ...]:
    """Return what is to be said of the newest point, and was not said before.

    Each kind is given once by each scorer, but a fall again when the training fell again since.
    Only the course of the training is told by further scorers: bounds are the first one's.

    Args:
        points: Of one protocol in the order of their steps, at least one; without the base model.
        base: The base model alone, where it was scored.
        question: Has the bounds, and what matters where the settings say it.
        scales: Of all scorers.
        given: What was advised under this protocol.
    """
    newest, ways = points[-1], dict[tuple[AdviceKind, str], Callable[[], str]]()
    ways["low", ""] = lambda: _low(points, question, scales[""].digits)
    ways["saturated", ""] = lambda: _saturated(newest, question, scales[""].digits)
    varied = alike(newest.looks) < ALIKE_SHARE
    for scorer, matters in worths(question.worth, scales).items():
        digits = scales[scorer].digits
        course = _course(points, scorer)
        fallen = max((it.step for it in given if _of(it) == ("regressed", scorer)), default=0)
        if varied:
            ways["plateau", scorer] = partial(
                plateau, *course, matters, question.stretch, newest.unit, digits
            )
        ways["regressed", scorer] = partial(
            regressed, *course, matters, fallen, newest.unit, digits
        )
    ways["collapsed", ""] = lambda: _collapsed(points, base)
    for scorer, scale in scales.items():
        if scale.near is not None:
            ways["copied", scorer] = partial(
                copied, newest.scores.get(scorer, {}), scale.near, scale.digits
            )
    told = {_of(it) for it in given if it.kind != "regressed"}

    def found() -> Iterator[AdviceGiven]:
        for (kind, scorer), tell in ways.items():
            if (kind, scorer) not in told and (text := tell()):
                by = f"by {scorer}, " if scorer else ""
                yield AdviceGiven(
                    newest.evaluation, newest.step, kind, f"{by}{text}", scorer, newest.unit
                )

    return tuple(found())


def _of(advice: AdviceGiven) -> tuple[AdviceKind, str]:
    return advice.kind, advice.scorer


def _course(points: Sequence[Point], scorer: str) -> tuple[list[int], Means]:
    """Return steps and means of the points that a scorer has scored."""
    tables = {it.step: it.scores.get(scorer) for it in points}
    known = {step: table for step, table in tables.items() if table}
    return list(known), Means.shared(list(known.values()))


def _low(points: Sequence[Point], question: Question, digits: int) -> str:
    clip = points[-1].clip
    bound, enough = question.low, len(points) >= question.after
    if bound is None or clip.high is None or clip.high >= bound or not enough:
        return ""
    return (
        f"after {len(points)} checkpoints the mean is {_mean(clip, digits)}, wholly under"
        f" {bound:g}, as of models that do not follow their prompts: people look at the images, and"
        " check captions, base model and learning rate"
    )


def _saturated(newest: Point, question: Question, digits: int) -> str:
    bound, clip = question.saturated, newest.clip
    if bound is None or clip.low is None or clip.low <= bound:
        return ""
    return (
        f"the mean is {_mean(clip, digits)}, wholly above {bound:g}, from where on a higher one is"
        " no better model in human eyes: people choose by looking at the images from here"
    )


def plateau(
    steps: Sequence[int],
    means: Means,
    worth: float,
    stretch: int,
    unit: Unit = "step",
    digits: int = 4,
) -> str:
    """Say that the curve rises no more, "" if it may, or if it fell: then it has a way to go."""
    found = gain(steps, means, stretch, worth)
    if found.below >= worth or lag(means) >= worth:
        return ""
    return (
        f"over the last {found.steps} {unit}s the mean surely rose by less than"
        f" {max(found.below, 0.0):.{digits}f}, where {worth:g} would matter: people stop here, or"
        " lower the learning rate once to see whether anything is left"
    )


def regressed(
    steps: Sequence[int],
    means: Means,
    worth: float,
    fallen_at: int = 0,
    unit: Unit = "step",
    digits: int = 4,
) -> str:
    """Say that the last two checkpoints are below what was before, "" if it is not sure.

    What was told of, at the step `fallen_at`, is the ground from which the next fall is seen:
    without a recovery or a further fall there is nothing new to say.
    """
    start = next((place for place, step in enumerate(steps) if step >= fallen_at), 0)
    found = fall(means[start:], worth)
    if found.surely < worth:
        return ""
    best = steps[int(means.values[:-RECENT].argmax())]
    return (
        f"the last two checkpoints are {found.seen:.{digits}f} below those before, surely"
        f" {found.surely:.{digits}f} or more, where {worth:g} matters: people go back"
        f" to {unit} {best}, the highest so far, or go on with a lower learning rate"
    )


def _collapsed(points: Sequence[Point], base: Point | None) -> str:
    """Images were different from prompt to prompt once, and are not any more."""
    share = alike(points[-1].looks)
    others = [*points[:-1], *([base] if base else [])]
    if share < ALIKE_SHARE or all(alike(it.looks) > VARIED_SHARE for it in others):
        return ""
    looks = points[-1].looks
    even = sum(int(look, 16) == 0 for look in looks) > ALIKE_SHARE * len(looks)
    what = "black or of one colour" if even else "nearly the same picture"
    return (
        f"{share:.0%} of the images are {what} whatever the prompt: people stop, go back"
        " to an earlier checkpoint and look for NaN, a too high learning rate or a broken VAE"
    )


def copied(scores: Scores, near: Near, digits: int = 4) -> str:
    """Say that images come nearer to training images than those come to each other, "" if not so.

    Of each prompt the first image counts: several of one prompt are near together, or not.
    """
    firsts = [row[0] for row in scores.values() if row]
    seen = sum(it >= near.bound for it in firsts)
    if chance(seen, len(firsts), near) >= BY_CHANCE:
        return ""
    return (
        f"{seen} of {len(firsts)} images come as near to a training image ({near.bound:.{digits}f}"
        f" or more) as {near.usual} of {near.of} training images come to another one, and"
        f" {near.reached:.0%} of copies do: people look at the nearest beside the training images,"
        " and go back to an earlier checkpoint"
    )


def alike(looks: Sequence[str]) -> float:
    """Return the share of pairs of images that look the same, 0..1; 0 for few images."""
    bits = [int(look, 16) for look in looks[:_MOST]]
    if len(bits) < _FEWEST:
        return 0.0
    pairs = list(combinations(bits, 2))
    return sum((a ^ b).bit_count() <= ALIKE_BITS for a, b in pairs) / len(pairs)


def _mean(clip: Summary, digits: int) -> str:
    if clip.low is None or clip.high is None:
        return f"{clip.mean:.{digits}f}"
    return f"{clip.mean:.{digits}f} (95 % interval {clip.low:.{digits}f} to {clip.high:.{digits}f})"
