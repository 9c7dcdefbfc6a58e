"""Which results the points of a curve are, and which are lacking: decisions, without MLflow.

MLflow keeps every point that it was given: key, step, time and value. A result's time is the second
in which it was scored, and the milliseconds in that are a mark of its evaluation. So points tell
themselves whose they are, whichever log sent them, and the same point sent again is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

Point = tuple[int, int, float]
"""(step, time in milliseconds, value)."""


class Known(msgspec.Struct, frozen=True):
    """A result as it can be found again.

    Attributes:
        seq: Its place in its series.
        step: The trainer's.
        second: When it was scored.
        mark: Of its evaluation, 0..999.
        mean: The first of its numbers.
        later: Names of the means of scorers that came later.
    """

    seq: int
    step: int
    second: int
    mark: int
    mean: float
    later: tuple[str, ...] = ()


def mark(evaluation: str) -> int:
    """Return the milliseconds that stand for an evaluation."""
    return int(hashlib.sha256(evaluation.encode()).hexdigest(), 16) % 1000


def last(points: Iterable[Point]) -> dict[int, Point]:
    """Return step → its newest point, which is the one that MLflow calls the latest."""
    return {point[0]: point for point in sorted(points, key=lambda it: it[:2])}


def held(known: Iterable[Known], points: Iterable[Point]) -> dict[int, tuple[Known, Point]]:
    """Return step → the result whose point is the newest there, and that point.

    Points of nobody that is known are passed over: another log sent them, of which ours may be an
    older copy. Of two results that bear one mark it is the one with that mean.
    """
    marked: dict[tuple[int, int], list[Known]] = {}
    for it in known:
        marked.setdefault((it.step, it.mark), []).append(it)
    found: dict[int, tuple[Known, Point]] = {}
    for point in sorted(points, key=lambda it: it[:2]):
        step, at, value = point
        alike = marked.get((step, at % 1000), [])
        if alike:
            found[step] = min(alike, key=lambda it: (abs(it.mean - value), -it.seq)), point
    return found


def shown(
    known: Sequence[Known],
    points: Iterable[Point],
    later: Mapping[str, Collection[tuple[int, int]]],
) -> tuple[int, ...]:
    """Return the `seq` of the results that the run shows, or a later one in their places.

    Args:
        known: The results of the series.
        points: Of their means.
        later: (step, time) of the points of each scorer that came later, by the name of its mean.
    """
    there = held(known, points)
    return tuple(
        it.seq
        for it in known
        if it.step in there
        for top, point in [there[it.step]]
        if it.seq < top.seq
        or (it == top and all(point[:2] in later.get(name, ()) for name in it.later))
    )


def time_of(result: Known, newest: Point | None) -> int:
    """Return the time of a result's points: after whatever stands at its step.

    Weights may come back that were scored before.
    """
    second = result.second if newest is None else max(result.second, newest[1] // 1000 + 1)
    return second * 1000 + result.mark
