"""Votes on pairs: shares with Wilson's interval, strengths with those of Bradley and Terry."""

from __future__ import annotations

import math
import re
import runpy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from clipwatch.statistics.votes import bradley_terry, preferences, wilson
from places import ROOT


@pytest.mark.parametrize(("chosen", "votes"), [(60, 100), (0, 5), (5, 5), (1, 1), (119, 198)])
def test_the_interval_of_two_is_wilsons(chosen: int, votes: int) -> None:
    """As scipy has it."""
    known = binomtest(chosen, votes).proportion_ci(method="wilson")
    assert wilson(chosen, votes) == pytest.approx((chosen / votes, known.low, known.high))


def test_two_are_told_apart_by_wilson() -> None:
    """The one with more votes is preferred, and what is not sure is tied."""
    found = preferences(["a", "b"], {("a", "b"): 79, ("b", "a"): 119})
    assert found is not None
    assert (found.best, found.tied, found.surely()) == ("b", [], [("b", "a")])
    assert found.over["b", "a"] == wilson(119, 198)
    assert found.over["a", "b"] == pytest.approx(
        (79 / 198, 1 - wilson(119, 198)[2], 1 - wilson(119, 198)[1])
    )
    close = preferences(["a", "b"], {("a", "b"): 9, ("b", "a"): 9})
    assert close is not None
    assert (close.best, close.tied, close.surely()) == ("a", ["b"], [])


@given(st.integers(0, 40), st.integers(0, 40))
def test_firths_strength_of_two_is_known(won: int, lost: int) -> None:
    """For two it adds half a vote to each side."""
    if won + lost == 0:
        return
    table = np.array([[0.0, won], [lost, 0.0]])
    strengths, _ = bradley_terry(table)
    expected = math.log((won + 0.5) / (lost + 0.5))
    assert strengths[0] - strengths[1] == pytest.approx(expected, abs=1e-3)


def test_many_votes_tell_the_strengths() -> None:
    """And their covariance is that of the information."""
    truth = np.array([0.0, 0.8, -0.4, 1.5])
    table = 100_000 * expit(truth[:, None] - truth[None, :])
    np.fill_diagonal(table, 0)
    strengths, covariance = bradley_terry(table)
    assert strengths == pytest.approx(truth, abs=1e-3)
    shares = expit(truth[:, None] - truth[None, :])
    information = -100_000 * shares * (1 - shares)
    np.fill_diagonal(information, 0)
    np.fill_diagonal(information, -information.sum(axis=1))
    assert covariance[1:, 1:] == pytest.approx(np.linalg.inv(information[1:, 1:]), rel=0.01)


def test_who_wins_all_votes_has_a_strength_nevertheless() -> None:
    """Few votes for the same one show nothing, many do."""
    for votes, sure in ((1, []), (30, [("a", "b"), ("a", "c"), ("b", "c")])):
        won = {("a", "b"): votes, ("a", "c"): votes, ("b", "c"): votes}
        found = preferences(["a", "b", "c"], won)
        assert found is not None
        assert found.best == "a"
        assert found.surely() == sure
        assert all(0 <= low <= share <= high <= 1 for share, low, high in found.over.values())


def test_those_that_never_met_are_compared_through_others() -> None:
    """Not those that no vote joins to them."""
    won = {("a", "b"): 40, ("b", "a"): 20, ("b", "c"): 40, ("c", "b"): 20, ("x", "y"): 5}
    found = preferences(["x", "a", "b", "c", "y", "z"], won)
    assert found is not None
    assert {name for name, _ in found.over} == {"a", "b", "c"}
    share, low, high = found.over["a", "c"]
    assert share == pytest.approx(0.8, abs=0.02)  # odds of 2 to 1, twice
    assert found.over["c", "a"] == pytest.approx((1 - share, 1 - high, 1 - low))
    assert high - low > found.over["a", "b"][2] - found.over["a", "b"][1]


def test_the_documents_tell_how_many_votes_are_enough() -> None:
    """As the benchmark computes it: a preference of 60 in 100 takes 198."""
    needed = runpy.run_path(str(ROOT / "benchmarks" / "votes.py"))["needed"]
    manual = (ROOT / "docs" / "votes.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\d+) of 100 \| (\d+) \|$", manual, re.MULTILINE)
    assert {int(share): int(votes) for share, votes in told}[60] == 198
    for share, votes in told[1:]:  # the first takes the longest to compute
        assert needed(int(share) / 100) == int(votes)


def test_without_a_vote_nothing_is_said() -> None:
    """Nor of a single one."""
    assert preferences(["a", "b"], {}) is None
    assert preferences(["a"], {}) is None
