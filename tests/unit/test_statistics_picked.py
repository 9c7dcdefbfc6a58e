"""What is said of the highest of several means knows that it was picked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipwatch.statistics.best import Together, best_of
from clipwatch.statistics.means import Means
from clipwatch.statistics.paired import compare
from clipwatch.statistics.picked import against_winner, compare_with_best, winners_mean
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores
from score_tables import noisy


def column(scores: Scores) -> list[float]:
    return [row[0] for row in scores.values()]


def test_one_alone_has_students_interval() -> None:
    """Where nothing is picked, mean and interval are those of scipy."""
    (scores,) = noisy(30, [0.0]).values()
    found = winners_mean(Means.shared([scores]), COSINE)
    student = stats.ttest_1samp(column(scores), 0).confidence_interval(0.95)
    assert found.winner == 0
    assert found.value == pytest.approx(np.mean(column(scores)))
    assert (found.low, found.high) == pytest.approx(tuple(student), abs=2e-4)


def test_a_clear_winner_has_nearly_students_interval() -> None:
    """Luck has no part in it; one of two that lie close has an interval farther down."""
    clear, close = list(noisy(60, [0.0, 0.1]).values()), list(noisy(60, [0.0, 0.002]).values())
    for tables, shifts in ((clear, False), (close, True)):
        found = winners_mean(Means.shared(tables), COSINE)
        student = stats.ttest_1samp(column(tables[found.winner]), 0).confidence_interval(0.95)
        down = np.array([student.low - found.low, student.high - found.high])
        assert bool((down > 2e-4).all()) == shifts
        assert found.low < found.value < found.high


def test_the_winner_is_the_one_that_best_names() -> None:
    """With the same mean and interval, also where another is as good but for the batch size."""
    evaluations = noisy(40, [0.0, 0.03, 0.03, -0.02])
    evaluations["again"] = {name: [x + 2e-5 for x in row] for name, row in evaluations["1"].items()}
    found = winners_mean(Means.shared(list(evaluations.values())), COSINE)
    ranked = best_of(evaluations, COSINE)
    assert list(evaluations)[found.winner] == ranked.best
    assert ranked.mean == (found.value, found.low, found.high)


def test_a_difference_to_the_best_before_is_corrected() -> None:
    """Of equal checkpoints the highest was lucky: the interval lies higher than the plain one."""
    *before, newest = noisy(100, [0.0] * 12, seed=4).values()
    candidates = {str(place): scores for place, scores in enumerate(before)}
    found = compare_with_best(candidates, "new", newest, COSINE)
    plain = compare(found.a, candidates[found.a], "new", newest, COSINE)
    assert (found.b, found.picked, plain.picked) == ("new", 12 - 1, 0)
    assert (found.delta, found.wins, found.ties, found.losses) == pytest.approx(
        (plain.delta, plain.wins, plain.ties, plain.losses)
    )
    assert found.high > plain.high
    assert found.low < found.delta < found.high
    assert (found.verdict == "worse") == (found.high < 0) == (found.p < 0.05)


def test_a_true_difference_is_still_seen() -> None:
    """A checkpoint that is better or worse than all before it is told so."""
    *before, high, low = noisy(100, [0.0] * 12 + [0.03, -0.03]).values()
    candidates = {str(place): scores for place, scores in enumerate(before)}
    assert compare_with_best(candidates, "x", high, COSINE).verdict == "better"
    found = compare_with_best(candidates, "x", low, COSINE)
    assert (found.verdict, found.p < 0.05) == ("worse", True)
    turned = found.turned()
    assert (turned.verdict, turned.a, turned.low) == ("better", "x", -found.high)


def test_the_same_scores_again_are_no_difference() -> None:
    """Weights that did not change are equal, whatever was picked before."""
    tables = noisy(40, [0.0, 0.02])
    found = compare_with_best(tables, "x", tables["1"], COSINE)
    assert (found.a, found.delta, found.low, found.high) == ("1", 0.0, 0.0, 0.0)
    assert (found.verdict, found.ties) == ("inconclusive", 40)


def test_few_prompts_show_nothing() -> None:
    """With fewer than six the interval is all that can be; one prompt has no variance at all."""
    for prompts in (1, 5):
        means = Means.shared(list(noisy(prompts, [0.0, 0.5]).values()))
        found = against_winner(means, COSINE)
        assert (found.low, found.high, found.p) == (-2.0, 2.0, 1.0)


def test_a_pair_among_all_has_the_interval_of_best() -> None:
    """B less a, wider than alone."""
    evaluations = noisy(60, [0.0, 0.004, 0.01, 0.0, 0.002])
    ranked = best_of(evaluations, COSINE)
    for name, told in ranked.differences.items():
        assert Together(evaluations, COSINE).interval(ranked.best, name) == pytest.approx(told)
        alone = compare(ranked.best, evaluations[ranked.best], name, evaluations[name], COSINE)
        assert told[2] - told[1] > alone.high - alone.low
