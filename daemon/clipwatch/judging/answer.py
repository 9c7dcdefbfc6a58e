"""What the scores of an evaluation say beside those before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.state import Run
from clipwatch.domain.strengths import base_of
from clipwatch.judging.advice import Point, advise
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.overfit import Measured, overfit
from clipwatch.models.scorers import scales_of
from clipwatch.statistics import Comparison
from clipwatch.statistics.intervals import by_category, describe
from clipwatch.statistics.paired import compare
from clipwatch.statistics.picked import compare_with_best
from clipwatch.statistics.scale import Scale

MOST_POINTS = 200
"""Checkpoints that advice looks back on, the newest ones; bounds memory."""


def answer(run: Run, question: Question, point: Point, earlier: Sequence[Point]) -> Judgement:
    """Say what the scores of an evaluation mean, also beside those before it.

    Args:
        run: Its run.
        question: Asks for it.
        point: Its scores.
        earlier: Those that are `looked_back_on`, without itself.
    """
    digest = run.evaluations[question.evaluation].protocol
    protocol = run.protocols[digest]
    categories = {prompt.id: prompt.category for prompt in protocol.prompts if prompt.category}
    of_base = [it for it in earlier if run.evaluations[it.evaluation].of_base]
    base = of_base[-1] if of_base else None
    others = _latest([it for it in earlier if it not in of_base])
    is_base = run.evaluations[question.evaluation].of_base
    apart = point.unit == "file"  # none comes before another, and there is no course
    before = [it for it in others if it.step < point.step and not apart]
    given = [it for it in run.advice if run.evaluations[it.evaluation].protocol == digest]
    environment = run.evaluations[question.evaluation].environment
    scales = scales_of(protocol, environment)
    newest = not (is_base or apart) and len(before) == len(others)
    return Judgement(
        scores={name: describe(scores) for name, scores in point.scores.items()},
        categories=by_category(point.scores[""], categories),
        against_base=None if is_base else _compare(base, point, scales[""]),
        against_best=None if is_base else _compare_with_best(before, point, scales[""]),
        advice=(
            *advise([*others, point], base, question, scales, given),
            *_overfit([*of_base[-1:], *others, point], given),
        )
        if newest
        else (),
    )


def looked_back_on(run: Run, protocol: str) -> list[str]:
    """Return the newest results, and the base model's and the best one however old they are.

    The base may have been scored at another strength, which is none for it.
    """
    scored = run.scored.get(protocol, ())
    kept = set(scored[-MOST_POINTS:])
    base = [id_ for id_ in scored if run.evaluations[id_].of_base]
    others = base_of(run, protocol) if not base else ""
    means = {
        id_: clip.mean
        for id_ in scored
        if id_ not in base and (clip := run.evaluations[id_].clip) is not None
    }
    kept.update(base[-1:], [max(means, key=means.__getitem__)] if means else [])
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


def _compare(other: Point | None, point: Point, scale: Scale) -> Comparison | None:
    if other is None or not other.scores[""].keys() & point.scores[""].keys():
        return None
    own = point.scores[""]
    return compare(other.evaluation, other.scores[""], point.evaluation, own, scale)


def _compare_with_best(before: list[Point], point: Point, scale: Scale) -> Comparison | None:
    candidates = {it.evaluation: it.scores[""] for it in before}
    own = point.scores[""]
    if not candidates or not set.intersection(set(own), *map(set, candidates.values())):
        return None
    return compare_with_best(candidates, point.evaluation, own, scale)
