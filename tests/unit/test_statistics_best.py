"""The best of many evaluations: corrected for having looked at all."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipwatch.statistics.best import best_of
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores
from score_tables import noisy


def brute_force(evaluations: dict[str, Scores]) -> float:
    """Return |t| that the largest of all pairs passes in 5 % of all flips, one flip at a time."""
    table = np.array([[row[0] for row in scores.values()] for scores in evaluations.values()])
    columns = list(itertools.combinations(range(len(table)), 2))
    largest = []
    for signs in itertools.product((1.0, -1.0), repeat=table.shape[1] - 1):
        flipped = table * np.array([*signs, 1.0])
        ts = []
        for i, j in columns:
            difference = flipped[i] - flipped[j]
            ts.append(
                abs(difference.mean()) / (difference.std(ddof=1) / math.sqrt(len(difference)))
            )
        largest.append(max(ts))
    place = math.floor(0.05 * len(largest))
    others = largest[1:]  # the first flip turns nothing
    return float(sorted(others)[-place])


def test_intervals_are_max_t() -> None:
    """The intervals' factor is that of a brute-force max-T over all flips and pairs."""
    evaluations = noisy(9, [0.0, 0.01, 0.02, 0.03])
    found = best_of(evaluations, COSINE)
    factor = brute_force(evaluations)
    for name, (delta, low, high) in found.differences.items():
        pairs = zip(evaluations[name].values(), evaluations[found.best].values(), strict=True)
        difference = [a[0] - b[0] for a, b in pairs]
        half = factor * np.std(difference, ddof=1) / 3
        assert delta == pytest.approx(np.mean(difference))
        assert (low, high) == pytest.approx((delta - half, delta + half))


def test_the_best_and_those_near_it() -> None:
    """What is far below the best is told from it, what is near is not, among fourteen."""
    shifts = [0.0, 0.02, 0.0195, 0.001, *[0.0] * 10]
    found = best_of(noisy(200, shifts), COSINE)
    assert found.best in {"1", "2"}
    assert set(found.tied) | {found.best} == {"1", "2"}
    assert found.n_prompts == 200
    assert set(found.differences) == {str(index) for index in range(14)} - {found.best}


def test_looking_at_many_widens() -> None:
    """A pair's interval is wider among 20 than alone, where it is nearly `compare`'s."""
    evaluations = noisy(60, [0.02, *[0.0] * 19])
    found, alone = (
        best_of(evaluations, COSINE),
        best_of(dict(list(evaluations.items())[:2]), COSINE),
    )
    _, low, high = alone.differences["1"]
    single = compare("0", evaluations["0"], "1", evaluations["1"], COSINE)
    assert (low, high) == pytest.approx((single.low, single.high), abs=0.03 * (high - low))
    wide = found.differences["1"]
    assert wide[2] - wide[1] > 1.4 * (high - low)


def test_order_and_seed() -> None:
    """Order of prompts changes nothing, a seed gives the same figures again, another nearly so."""
    evaluations = noisy(50, [0.0, 0.004, 0.008])
    turned = {name: dict(reversed(list(scores.items()))) for name, scores in evaluations.items()}
    found = best_of(evaluations, COSINE)
    assert best_of(turned, COSINE) == found == best_of(evaluations, COSINE)
    other = best_of(evaluations, COSINE, seed=1)
    assert other != found
    for name, interval in found.differences.items():
        assert other.differences[name] == pytest.approx(interval, abs=0.001)


def test_equal_ones_tie_and_the_first_is_named() -> None:
    """The same scores under three names: the first is the best, the others tie at 0 width."""
    scores = noisy(40, [0.0])["0"]
    found = best_of({"x": scores, "y": scores, "z": scores}, COSINE)
    assert (found.best, found.tied) == ("x", ("y", "z"))
    assert found.differences["y"] == (0.0, 0.0, 0.0)


def test_float_noise_ties() -> None:
    """The same images scored a hair higher each time cannot be told apart."""
    scores = noisy(40, [0.0])["0"]
    higher = {name: [score + 2.1e-5 for score in row] for name, row in scores.items()}
    found = best_of({"x": scores, "y": higher}, COSINE)
    assert (found.best, found.tied) == ("y", ("x",))


def test_what_is_within_the_tie_is_known_no_closer() -> None:
    """Where all pairs are alike no flip tells how sure a difference is: not surer than the tie."""
    near = {name: {f"{n:02}": [0.1 + more * (n % 3)] for n in range(12)}
            for name, more in (("x", 0.0), ("y", COSINE.tie / 4))}  # fmt: skip
    found = best_of(near, COSINE)
    assert (found.best, found.tied) == ("y", ("x",))
    value, low, high = found.differences["x"]
    assert (low, high) == pytest.approx((value - COSINE.tie, value + COSINE.tie))


def test_one_alone_and_few_prompts() -> None:
    """One evaluation is the best of one; on five prompts all tie within -2..2."""
    assert best_of(noisy(30, [0.0]), COSINE).differences == {}
    found = best_of(noisy(5, [0.0, 0.5, 0.2]), COSINE)
    assert (found.best, found.tied) == ("1", ("0", "2"))
    assert found.differences["0"][1:] == (-2.0, 2.0)


def test_common_prompts_only() -> None:
    """Prompts that one of them lacks are left out of all."""
    evaluations = noisy(40, [0.0, 0.01])
    part = dict(list(evaluations["0"].items())[:25])
    assert best_of({"a": part, "b": evaluations["1"]}, COSINE).n_prompts == 25
    with pytest.raises(ValueError, match="share no scored prompt"):
        best_of({"a": {"x": [0.1]}, "b": {"y": [0.1]}}, COSINE)
    with pytest.raises(ValueError, match="share no scored prompt"):
        best_of({}, COSINE)


# --- which may be the best ----------------------------------------------------------------------


def brute_candidates(evaluations: dict[str, Scores]) -> set[str]:
    """Return those whose largest t, on one side, is reached by more than 5 % of all signs."""
    table = np.array([[row[0] for row in scores.values()] for scores in evaluations.values()])
    prompts = table.shape[1]
    found = set()
    for one in range(len(table)):
        leads = np.delete(table, one, axis=0) - table[one]

        def largest(signs: tuple[float, ...], leads: NDArray[np.float64] = leads) -> float:
            turned = leads * np.array(signs)
            ts = turned.mean(axis=1) / (turned.std(axis=1, ddof=1) / math.sqrt(prompts))
            return float(ts.max())

        every = [largest(signs) for signs in itertools.product((1.0, -1.0), repeat=prompts)]
        if sum(it >= every[0] - 1e-9 for it in every) / len(every) > 0.05:
            found.add(str(one))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_candidates_are_those_of_all_signs(seed: int) -> None:
    """A one-sided max-T for each, by brute force; some are in it and some are not."""
    evaluations = noisy(9, [0.0, 0.012, 0.02, 0.03, 0.03], seed=seed)
    found = best_of(evaluations, COSINE)
    assert set(found.candidates) == brute_candidates(evaluations)
    assert 0 < len(found.candidates) < 5


@given(st.integers(6, 20), st.integers(1, 6), st.integers(0, 99))
def test_candidates_are_the_best_and_some_that_tie(prompts: int, count: int, seed: int) -> None:
    """To say which may be the best never takes more than to tell each pair apart."""
    shifts = np.random.default_rng(seed).normal(0, 0.01, count).tolist()
    found = best_of(noisy(prompts, shifts, seed=seed), COSINE)
    assert {found.best} <= set(found.candidates) <= {found.best, *found.tied}


def test_candidates_where_nothing_can_be_told() -> None:
    """Few prompts, and the same scores under several names, leave all; one alone is the best."""
    assert best_of(noisy(5, [0.0, 0.5]), COSINE).candidates == ("0", "1")
    scores = noisy(40, [0.0])["0"]
    assert best_of({"x": scores, "y": scores}, COSINE).candidates == ("x", "y")
    higher = {name: [score + 2.1e-5 for score in row] for name, row in scores.items()}
    assert best_of({"x": scores, "y": higher}, COSINE).candidates == ("x", "y")
    assert best_of({"x": scores}, COSINE).candidates == ("x",)
