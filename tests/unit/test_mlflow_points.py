"""Which results MLflow's points are, decided without MLflow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clipwatch_adapters.mlflow.points import Known, Point, held, last, mark, shown, time_of

SECOND = 1_772_366_400


def known(seq: int, step: int, evaluation: str, mean: float, second: int = SECOND) -> Known:
    return Known(seq, step, second, mark(evaluation), mean)


def sent(result: Known, points: list[Point]) -> Point:
    """Return the point that a result gets."""
    at = time_of(result, last(points).get(result.step))
    return result.step, at, result.mean


def test_a_point_tells_whose_it_is_whenever_it_was_scored() -> None:
    """By the milliseconds of its time; so the same weights scored again elsewhere are the same."""
    ours = known(0, 100, "a", 0.3)
    point = sent(known(0, 100, "a", 0.3004, SECOND - 86_400), [])
    assert point[1] % 1000 == mark("a")
    assert shown([ours], [point], {}) == (0,)
    assert shown([known(0, 200, "a", 0.3)], [point], {}) == ()


def test_of_two_that_bear_one_mark_the_mean_tells() -> None:
    """One in a thousand pairs of a step has one mark."""
    one, other = Known(0, 100, SECOND, 7, 0.2), Known(1, 100, SECOND + 60, 7, 0.3)
    assert shown([one, other], [sent(one, [])], {}) == (0,)
    assert shown([one, other], [sent(one, []), sent(other, [])], {}) == (0, 1)


def test_points_of_nobody_are_passed_over() -> None:
    """Another log's newer point at our step hides nothing of ours, and ours comes behind it."""
    ours, theirs = known(0, 100, "a", 0.2), known(5, 100, "z", 0.4, SECOND + 500)
    points = [sent(ours, []), sent(theirs, [])]
    assert shown([ours], points, {}) == (0,)
    fresh = known(1, 100, "b", 0.3)
    points.append(sent(fresh, points))
    assert points[-1][1] > points[1][1]
    assert shown([ours, fresh], points, {}) == (0, 1)


def test_a_later_scorer_needs_its_own_point() -> None:
    """At the step and the time of the result's."""
    result = Known(0, 100, SECOND, 7, 0.2, ("scorer_x/mean",))
    point = sent(result, [])
    assert shown([result], [point], {"scorer_x/mean": ()}) == ()
    assert shown([result], [point], {"scorer_x/mean": [(100, point[1] + 1)]}) == ()
    assert shown([result], [point], {"scorer_x/mean": [point[:2]]}) == (0,)


@given(st.integers(1, 4), st.lists(st.integers(0, 3), max_size=8))
def test_whatever_is_sent_in_whatever_order_the_last_stands(count: int, order: list[int]) -> None:
    """Sent as a session sends: nothing that is older than what stands, and nothing twice."""
    order = [seq % count for seq in order]
    results = [known(seq, 100, "abcd"[seq], 0.1 * seq) for seq in range(count)]
    points: list[Point] = []
    for seq in order:
        top = held(results, points).get(100)
        if top is None or top[0].seq < seq:
            points.append(sent(results[seq], points))
    newest = max(order, default=-1)
    assert shown(results, points, {}) == tuple(range(newest + 1))
    assert len({at for _, at, _ in points}) == len(points)
    if points:
        assert last(points)[100][2] == results[newest].mean
