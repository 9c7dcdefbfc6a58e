"""The process that judges an evaluation: a question on stdin, a judgement on stdout, as JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from clipwatch.domain.events import ImageScore, ProtocolDefined
from clipwatch.domain.fold import evolve
from clipwatch.domain.state import Run
from clipwatch.journal import Journal
from clipwatch.judging.advice import Point, advise
from clipwatch.judging.ask import Judgement, Question
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.processes import end_with_parent
from clipwatch.models.scorers import scales_of
from clipwatch.results.reading import read_images
from clipwatch.results.tables import score_tables
from clipwatch.statistics import Comparison
from clipwatch.statistics.intervals import by_category, describe
from clipwatch.statistics.paired import compare
from clipwatch.statistics.picked import compare_with_best
from clipwatch.statistics.scale import Scale

MOST_POINTS = 200
"""Checkpoints that advice looks back on, the newest ones; bounds memory."""


def judge(question: Question) -> Judgement:
    """Say what the scores of an evaluation mean, also beside those before it.

    Raises:
        ClipwatchError: The log does not have the evaluation.
        JournalError: It cannot be read.
    """
    with Journal(Path(question.log), read_only=True) as journal:
        landmarks = list(journal.landmarks())
        state = evolve({}, ((it.run, it.event, it.time) for it in landmarks))
        run = state.get(question.run)
        if run is None or question.evaluation not in run.evaluations:
            raise ClipwatchError(f"the log has no evaluation {question.evaluation}")
        digest = run.evaluations[question.evaluation].protocol
        protocol = next(
            it.event.protocol
            for it in landmarks
            if it.run == run.name
            and isinstance(it.event, ProtocolDefined)
            and it.event.digest == digest
        )
        categories = {prompt.id: prompt.category for prompt in protocol.prompts if prompt.category}
        own = read_images(journal, run.name, question.evaluation)
        if not own:
            raise ClipwatchError(f"{question.evaluation} has no images")
        point = _point(run, question.evaluation, own)
        earlier = [
            _point(run, id_, read_images(journal, run.name, id_))
            for id_ in _looked_back_on(run, digest)
            if id_ != question.evaluation
        ]
    of_base = [it for it in earlier if run.evaluations[it.evaluation].of_base]
    base = of_base[-1] if of_base else None
    others = _latest([it for it in earlier if it not in of_base])
    is_base = run.evaluations[question.evaluation].of_base
    before = [it for it in others if it.step < point.step]
    given = [it for it in run.advice if run.evaluations[it.evaluation].protocol == digest]
    environment = run.evaluations[question.evaluation].environment
    scales = scales_of(protocol, environment)
    newest = not is_base and len(before) == len(others)
    return Judgement(
        scores={name: describe(scores) for name, scores in point.scores.items()},
        categories=by_category(point.scores[""], categories),
        against_base=None if is_base else _compare(base, point, scales[""]),
        against_best=None if is_base else _compare_with_best(before, point, scales[""]),
        advice=advise([*others, point], base, question, scales, given) if newest else (),
    )


def _looked_back_on(run: Run, protocol: str) -> list[str]:
    """Return the newest results, and the base model's and the best one however old they are."""
    scored = run.scored.get(protocol, ())
    kept = set(scored[-MOST_POINTS:])
    base = [id_ for id_ in scored if run.evaluations[id_].of_base]
    means = {
        id_: clip.mean
        for id_ in scored
        if id_ not in base and (clip := run.evaluations[id_].clip) is not None
    }
    kept.update(base[-1:], [max(means, key=means.__getitem__)] if means else [])
    return [id_ for id_ in scored if id_ in kept]


def _point(run: Run, evaluation: str, images: tuple[ImageScore, ...]) -> Point:
    scores = score_tables(images)
    looks = tuple(it.look for it in images if it.look and it.index == 0)
    step = run.evaluations[evaluation].step
    return Point(evaluation, step, describe(scores[""]), scores, looks, run.unit)


def _latest(points: list[Point]) -> list[Point]:
    """Return one point a step, the latest, in the order of the steps."""
    found = {it.step: it for it in points}
    return [found[step] for step in sorted(found)]


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


def main() -> int:
    """Answer one question; what is wrong goes to stderr, as one line at its end."""
    end_with_parent()
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        judgement = judge(question)
    except (ClipwatchError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(judgement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
