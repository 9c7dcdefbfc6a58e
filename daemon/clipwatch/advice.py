"""What the scores of a run suggest to do. Pure; decides over the points of one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from clipwatch.events import AdviceGiven
from clipwatch.judgement import Question
from clipwatch.statistics import Summary
from clipwatch.statistics.best import best_of, plateau
from clipwatch.statistics.scores import Scores

WORTH = 0.005
"""A gain in the mean that is worth going on for: about what late checkpoints differ by."""

ALIKE_BITS = 6
"""Images whose looks differ in no more of 64 bits pass for the same."""

ALIKE_SHARE, VARIED_SHARE = 0.9, 0.5
"""Share of pairs of images that are alike: of a collapsed model, and of one that is not."""

_FEWEST, _MOST = 8, 200
"""Prompts whose images are compared."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scored checkpoint.

    Attributes:
        evaluation: Its id.
        step: The trainer's.
        clip: Its scores, summarised.
        scores: By prompt.
        looks: Of the first image of each prompt (see ImageScore.look), in any order.
    """

    evaluation: str
    step: int
    clip: Summary
    scores: Scores
    looks: tuple[str, ...]


def advise(
    points: Sequence[Point], base: Point | None, question: Question, given: frozenset[str]
) -> tuple[AdviceGiven, ...]:
    """Return what is to be said of the newest point, and was not said before.

    Args:
        points: Of one protocol in the order of their steps, at least one; without the base model.
        base: The base model alone, where it was scored.
        question: Has the bounds.
        given: The kinds of advice that were given under this protocol.
    """
    newest = points[-1]
    kinds: Mapping[str, Callable[[], str]] = {
        "low": lambda: _low(points, question),
        "saturated": lambda: _saturated(newest, question),
        "plateau": lambda: _plateau(points, question.plateau),
        "regressed": lambda: _regressed(points),
        "collapsed": lambda: _collapsed(points, base),
    }

    def found() -> Iterator[AdviceGiven]:
        for kind, tell in kinds.items():
            if kind not in given and (text := tell()):
                yield AdviceGiven(newest.evaluation, newest.step, kind, text)

    return tuple(found())


def _low(points: Sequence[Point], question: Question) -> str:
    clip = points[-1].clip
    bound, enough = question.low, len(points) >= question.after
    if bound is None or clip.high is None or clip.high >= bound or not enough:
        return ""
    return (
        f"after {len(points)} checkpoints the mean is {_mean(clip)}, wholly under {bound:g},"
        " as of models that do not follow their prompts: people look at the images, and check"
        " captions, base model and learning rate"
    )


def _saturated(newest: Point, question: Question) -> str:
    bound, clip = question.saturated, newest.clip
    if bound is None or clip.mean <= bound:
        return ""
    return (
        f"the mean is {_mean(clip)}, above {bound:g}, from where on a higher one is no"
        " better model in human eyes: people choose by looking at the images from here"
    )


def _plateau(points: Sequence[Point], recent: int) -> str:
    if len(points) <= recent:
        return ""
    earlier = {it.evaluation: it.scores for it in points[:-recent]}
    found = plateau(earlier, {it.evaluation: it.scores for it in points[-recent:]}, WORTH)
    if not found.reached:
        return ""
    best = next(it for it in points if it.evaluation == found.best)
    return (
        f"none of the last {recent} checkpoints is better than step {best.step} by more"
        f" than {max(found.within, 0.0):.4f} (95 % sure): people stop here, or lower the learning"
        " rate once to see whether anything is left"
    )


def _regressed(points: Sequence[Point]) -> str:
    """Two checkpoints in a row are worse than the best.

    Looked for at each of 20 equal checkpoints, one alone would give a false alarm in every tenth
    training, two in a row in one of a hundred (simulated: 120 trainings, 64 prompts).
    """
    found = best_of({it.evaluation: it.scores for it in points})
    last = [it.evaluation for it in points[-2:]]
    if len(points) <= len(last) or any(id_ in (found.best, *found.tied) for id_ in last):
        return ""
    delta, low, high = found.differences[last[-1]]
    steps = {it.evaluation: it.step for it in points}
    return (
        f"the last two checkpoints are worse than step {steps[found.best]}, the newest"
        f" by {-delta:.4f} (95 % interval {-high:.4f} to {-low:.4f}, for all checkpoints at once):"
        f" people go back to step {steps[found.best]}, or go on with a lower learning rate"
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


def alike(looks: Sequence[str]) -> float:
    """Return the share of pairs of images that look the same, 0..1; 0 for few images."""
    bits = [int(look, 16) for look in looks[:_MOST]]
    if len(bits) < _FEWEST:
        return 0.0
    pairs = list(combinations(bits, 2))
    return sum((a ^ b).bit_count() <= ALIKE_BITS for a, b in pairs) / len(pairs)


def _mean(clip: Summary) -> str:
    if clip.low is None or clip.high is None:
        return f"{clip.mean:.4f}"
    return f"{clip.mean:.4f} (95 % interval {clip.low:.4f} to {clip.high:.4f})"
