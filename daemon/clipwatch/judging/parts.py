"""What an evaluation says that may have ended before its last image. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clipwatch.domain.decided import Decision, Estimate, Reference
from clipwatch.domain.events import ImageScore
from clipwatch.judging.advice import Point
from clipwatch.statistics import Summary
from clipwatch.statistics.anytime import Differing
from clipwatch.statistics.part import told_from
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import prompt_means


@dataclass(frozen=True, slots=True)
class Estimates:
    """The means of a part, by scorer, as estimates of those of all prompts."""

    summaries: Mapping[str, Summary]
    estimate: Estimate


def decision(
    named: Reference | None,
    reference: Point | None,
    arrived: Iterable[ImageScore],
    images: int,
    worth: float | None,
    scale: Scale,
) -> Decision | None:
    """Return how an evaluation compares with its reference; None where it has none.

    Args:
        named: The reference as the log has it.
        reference: Its scores.
        arrived: The evaluation's images, in the order in which they came.
        images: Of each prompt.
        worth: The difference that matters, None where nobody knows it.
        scale: Of the scores.
    """
    if named is None or reference is None or worth is None:
        return None
    followed = Differing(images, prompt_means(reference.scores[""]), worth, scale.tie)
    followed.add((it.prompt_id, it.index, it.score) for it in arrived)
    found = followed.difference
    if found is None:  # they share no prompt
        return None
    low, high = max(found.low, -scale.bound), min(found.high, scale.bound)
    known = followed.known or "open"
    return Decision(named, known, found.prompts, found.delta, low, high, worth)


def estimates(point: Point, wholes: Sequence[Point]) -> Estimates | None:
    """Return the means of a part as `told_from` evaluations of all prompts; None for no way.

    A scorer that one of the others lacks has its plain mean.
    """
    others = list({it.evaluation: it for it in wholes}.values())
    found = {
        name: told
        for name, scores in point.scores.items()
        if all(name in it.scores for it in others)
        and (told := told_from(scores, [it.scores[name] for it in others], stopped=True))
    }
    if "" not in found:
        return None
    each = {name: it.summary.n / it.summary.prompts for name, it in found.items()}
    effective = {name: it.effective * each[name] for name, it in found.items()}
    plain = {name: it.plain for name, it in found.items()}
    summaries = {name: it.summary for name, it in found.items()}
    return Estimates(summaries, Estimate(tuple(it.evaluation for it in others), effective, plain))
