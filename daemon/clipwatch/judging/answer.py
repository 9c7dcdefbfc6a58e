"""What the scores of an evaluation say beside those before it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from clipwatch.domain.deciding import is_part, worth_of
from clipwatch.domain.events import AdviceGiven, ImageScore
from clipwatch.domain.state import Run
from clipwatch.domain.strengths import base_of
from clipwatch.judging.advice import Point, advise
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.overfit import Measured, overfit
from clipwatch.judging.parts import decision, estimates
from clipwatch.models.scorers import scales_of
from clipwatch.statistics import Comparison
from clipwatch.statistics.intervals import by_category, describe
from clipwatch.statistics.paired import compare
from clipwatch.statistics.picked import compare_with_best
from clipwatch.statistics.scale import Scale

MOST_POINTS = 200
"""Checkpoints that advice looks back on, the newest ones; bounds memory."""


def answer(
    run: Run,
    question: Question,
    point: Point,
    earlier: Sequence[Point],
    reference: Point | None = None,
    arrived: Iterable[ImageScore] = (),
) -> Judgement:
    """Say what the scores of an evaluation mean, also beside those before it.

    Args:
        run: Its run.
        question: Asks for it.
        point: Its scores.
        earlier: Those that are `looked_back_on`, without itself.
        reference: What it was compared with while it was made, None for nothing.
        arrived: Then its images, in the order in which they came.
    """
    evaluation = run.evaluations[question.evaluation]
    digest, is_base = evaluation.protocol, evaluation.of_base
    protocol = run.protocols[digest]
    categories = {prompt.id: prompt.category for prompt in protocol.prompts if prompt.category}
    of_base = [it for it in earlier if run.evaluations[it.evaluation].of_base]
    base = of_base[-1] if of_base else None
    others = _latest([it for it in earlier if it not in of_base])
    apart = point.unit == "file"  # none comes before another, and there is no course
    before = [it for it in others if it.step < point.step and not apart]
    given = [it for it in run.advice if run.evaluations[it.evaluation].protocol == digest]
    scales = scales_of(protocol, evaluation.environment)
    newest = not (is_base or apart) and len(before) == len(others)
    each, every = protocol.images_per_prompt, protocol.images_per_prompt * len(protocol.prompts)
    worth = worth_of(question.worth, scales[""])
    named = None if evaluation.source else evaluation.reference  # parts come in any order
    decided = decision(named, reference, arrived, each, worth, scales[""])
    ended = evaluation.reference is not None and point.clip.n < every
    scores = {name: describe(scores) for name, scores in point.scores.items()}
    told = None
    if ended:  # by its scores: so it is told by those that were not, and has no place on a course
        told = estimates(point, [it for it in (reference, base) if it and it.clip.n >= every])
        question = replace(question, worth=dict.fromkeys(scales))
    if told:
        scores |= told.summaries
        point = replace(point, clip=scores[""])
    grown = _overfit([*of_base[-1:], *others, point], given)  # losses are whole, always
    parts = {it.evaluation for it in others if is_part(run, run.evaluations[it.evaluation])}
    before, others = (
        [it for it in all_ if it.evaluation not in parts] for all_ in (before, others)
    )
    return Judgement(
        scores=scores,
        categories=by_category(point.scores[""], categories),
        against_base=None if is_base else _compare(base, point, scales[""], ended=ended),
        against_best=None if is_base else _against_best(before, point, scales[""], ended=ended),
        advice=(
            *advise([*others, point], base, question, scales, given),
            *grown,
        )
        if newest
        else (),
        decision=decided,
        estimate=told.estimate if told else None,
        # of other prompts at each checkpoint they would be no curve
        answered={} if ended else point.answered,
    )


def looked_back_on(run: Run, protocol: str, reference: str = "") -> list[str]:
    """Return the newest results, and the base model's and the best one however old they are.

    So is a `reference` of the run's own. The base may have been scored at another strength, which
    is none for it.
    """
    scored = run.scored.get(protocol, ())
    kept = set(scored[-MOST_POINTS:])
    base = [id_ for id_ in scored if run.evaluations[id_].of_base]
    others = base_of(run, protocol) if not base else ""
    means = {
        id_: clip.mean
        for id_ in scored
        if id_ not in base
        and (clip := run.evaluations[id_].clip) is not None
        and not is_part(run, run.evaluations[id_])
    }
    kept.update(base[-1:], [reference], [max(means, key=means.__getitem__)] if means else [])
    return [*filter(None, [others]), *(id_ for id_ in scored if id_ in kept)]


def _latest(points: list[Point]) -> list[Point]:
    """Return one point a step, the latest, in the order of the steps."""
    found = {it.step: it for it in points}
    return [found[step] for step in sorted(found)]


def _overfit(points: Sequence[Point], given: Sequence[AdviceGiven]) -> tuple[AdviceGiven, ...]:
    """Return what the losses suggest, once in a protocol; the base model stands first."""
    newest = points[-1]
    if newest.losses is None or any(it.kind == "overfit" for it in given):
        return ()
    text = overfit([Measured(it.step, it.losses) for it in points if it.losses], newest.unit)
    told = AdviceGiven(newest.evaluation, newest.step, "overfit", text, unit=newest.unit)
    return (told,) if text else ()


def _compare(other: Point | None, point: Point, scale: Scale, *, ended: bool) -> Comparison | None:
    if other is None or not other.scores[""].keys() & point.scores[""].keys():
        return None
    own = point.scores[""]
    names = (other.evaluation, other.scores[""], point.evaluation, own)
    return compare(*names, scale, stopped=int(ended))


def _against_best(
    before: list[Point], point: Point, scale: Scale, *, ended: bool
) -> Comparison | None:
    candidates = {it.evaluation: it.scores[""] for it in before}
    own = point.scores[""]
    if not candidates or not set.intersection(set(own), *map(set, candidates.values())):
        return None
    if ended:
        best = max(before, key=lambda it: it.clip.mean)
        picked = len(candidates)
        names = (best.evaluation, best.scores[""], point.evaluation, own)
        return replace(compare(*names, scale, stopped=picked), picked=picked)
    return compare_with_best(candidates, point.evaluation, own, scale)
