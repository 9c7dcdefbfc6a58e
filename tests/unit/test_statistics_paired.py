"""Two evaluations, prompt by prompt: interval, p and verdict of one test."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clipwatch.statistics import Comparison
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores
from score_tables import noisy, pairs


def of(differences: list[float]) -> Comparison:
    """Compare two evaluations with these differences."""
    a = {f"{index:04}": [0.0] for index in range(len(differences))}
    b = {f"{index:04}": [value] for index, value in enumerate(differences)}
    return compare("a", a, "b", b, COSINE)


def swapped(verdict: str) -> str:
    """Return what is said of a if this is said of b."""
    return {"better": "worse", "worse": "better"}.get(verdict, verdict)


@given(pairs())
def test_swapping_mirrors(both: tuple[Scores, Scores]) -> None:
    """The second against the first is the first against it, in all figures."""
    there, back = (
        compare("a", both[0], "b", both[1], COSINE),
        compare("b", both[1], "a", both[0], COSINE),
    )
    assert there.delta == -back.delta
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert (there.p, there.verdict) == (back.p, swapped(back.verdict))
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.detectable == pytest.approx(back.detectable)


@given(pairs(), st.randoms(use_true_random=False))
def test_order_changes_nothing(both: tuple[Scores, Scores], shuffler: random.Random) -> None:
    """Prompts in another order give the same comparison, its random flips too."""
    names = list(both[0])
    shuffler.shuffle(names)
    a, b = ({name: table[name] for name in names} for table in both)
    assert compare("a", a, "b", b, COSINE) == compare("a", both[0], "b", both[1], COSINE)


@given(pairs(smallest=6), st.floats(0.01, 0.5))
def test_shifts_move_the_interval(both: tuple[Scores, Scores], shift: float) -> None:
    """A constant added to b moves difference and interval by it."""
    a = both[0]
    b = {name: [score + 3 for score in row] for name, row in both[1].items()}  # no ties
    plain = compare("a", a, "b", b, COSINE)
    moved = compare(
        "a", a, "b", {name: [score + shift for score in row] for name, row in b.items()}, COSINE
    )
    expected = (plain.delta + shift, plain.low + shift, plain.high + shift)
    assert (moved.delta, moved.low, moved.high) == pytest.approx(expected, abs=1e-9)


@given(pairs())
def test_verdict_interval_and_p_agree(both: tuple[Scores, Scores]) -> None:
    """The verdict is what the interval says, p is at most 0.05 just then, and all is in bounds."""
    found = compare("a", both[0], "b", both[1], COSINE)
    shown = found.low > 0 or found.high < 0
    assert (found.verdict != "inconclusive") == shown == (found.p <= 0.05)
    assert found.verdict != "better" or found.delta > 0
    assert found.verdict != "worse" or found.delta < 0
    assert found.low <= found.delta + 1e-12
    assert found.delta <= found.high + 1e-12
    assert 0 < found.p <= 1
    assert found.wins + found.ties + found.losses == found.n_prompts


@pytest.mark.parametrize("prompts", [6, 9, 12])
@pytest.mark.parametrize("seed", range(4))
def test_exact_p_is_scipys(prompts: int, seed: int) -> None:
    """With few prompts p is that of scipy's exact permutation test and of brute force."""
    values = np.random.default_rng(seed).normal(0.01, 0.02, prompts)
    found = of(values.tolist())
    reference = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=2**prompts
    )
    reached = sum(
        abs(math.fsum(sign * value for sign, value in zip(signs, values, strict=True)))
        >= abs(math.fsum(values)) - 1e-12
        for signs in itertools.product((1, -1), repeat=prompts)
    )
    assert found.p == pytest.approx(float(reference.pvalue), abs=1e-12)
    assert found.p == pytest.approx(reached / 2**prompts, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_exact_interval_is_the_test_inverted(seed: int) -> None:
    """Shifts just inside the interval are not rejected by brute force, those just outside are."""
    values = np.random.default_rng(seed).normal(0.01, 0.02, 9)
    signs = np.array(list(itertools.product((1, -1), repeat=9)))

    def p(shift: float) -> float:
        moved = values - shift
        return float(np.mean(np.abs(signs @ moved) >= abs(moved.sum()) - 1e-12))

    found = of(values.tolist())
    assert p(found.low - 1e-9) <= 0.05 < p(found.low + 1e-9)
    assert p(found.high + 1e-9) <= 0.05 < p(found.high - 1e-9)


@pytest.mark.parametrize(("prompts", "shift"), [(100, 0.004), (100, 0.0), (3000, 0.001)])
def test_many_prompts_agree_with_students(prompts: int, shift: float) -> None:
    """With many prompts p and interval are near those of the paired t-test, and of a bootstrap."""
    tables = noisy(prompts, [0.0, shift], images=2, seed=3)
    a, b = tables["0"], tables["1"]
    found = compare("a", a, "b", b, COSINE)
    means = [[float(np.mean(row)) for row in table.values()] for table in (a, b)]
    test = stats.ttest_rel(means[1], means[0])
    low, high = test.confidence_interval(0.95)
    width = float(high - low)
    assert found.p == pytest.approx(float(test.pvalue), abs=0.02)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * width)
    boot = stats.bootstrap(
        (np.subtract(means[1], means[0]),), np.mean, method="basic", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((boot.low, boot.high), abs=0.06 * width)


def test_detectable_is_of_the_differences() -> None:
    """The smallest detectable difference is 2.9 paired standard errors for 29 prompts."""
    found = of([0.01, -0.01] * 14 + [0.0])
    se = 0.01 / math.sqrt(29)
    assert found.detectable == pytest.approx((2.048407 + 0.854647) * se, rel=1e-5)


@pytest.mark.parametrize("prompts", [1, 2, 5, 6, 40])
def test_identical_scores(prompts: int) -> None:
    """The same scores differ by nothing: p is 1, all are ties, nothing is concluded."""
    scores = noisy(prompts, [0.0])["0"]
    found = compare("a", scores, "b", scores, COSINE)
    assert (found.delta, found.p, found.verdict) == (0.0, 1.0, "inconclusive")
    assert (found.wins, found.ties, found.losses) == (0, prompts, 0)


@pytest.mark.parametrize("prompts", [1, 2, 5])
def test_few_prompts_show_nothing(prompts: int) -> None:
    """Below six prompts the interval is all that can be, even where all agree; with six it ends."""
    found = of([0.2] * prompts)
    assert (found.low, found.high, found.detectable) == (-2.0, 2.0, 2.0)
    assert found.verdict == "inconclusive"
    assert of([0.2] * 6).verdict == "better"
    assert of([-0.2] * 6).verdict == "worse"


def test_float_noise_is_a_tie() -> None:
    """Differences that another batch makes are none, also where all point the same way."""
    found = of([2.1e-5] * 50)
    assert (found.delta, found.ties, found.verdict) == (0.0, 50, "inconclusive")
    assert of([4e-5] * 50).verdict == "better"


def test_only_what_is_shared_counts() -> None:
    """Prompts of one side, and images the other has none of, are left out."""
    a: Scores = {"x": [0.1, 0.9], "y": [0.2], "only": [0.5], "empty": []}
    b: Scores = {"y": [0.3, 0.9], "x": [0.1], "other": [0.7], "empty": [0.4]}
    found = compare("a", a, "b", b, COSINE)
    assert (found.n_prompts, found.wins, found.ties) == (2, 1, 1)
    assert found.delta == pytest.approx(0.05)


@pytest.mark.parametrize("b", [{}, {"y": [0.1]}, {"x": []}])
def test_nothing_shared_is_refused(b: Scores) -> None:
    """Evaluations without a prompt in common cannot be compared."""
    with pytest.raises(ValueError, match="share no scored prompt"):
        compare("a", {"x": [0.1]}, "b", b, COSINE)


def test_what_is_no_number_is_refused() -> None:
    """A score that is not finite is refused, not carried into a verdict."""
    with pytest.raises(ValueError, match="not finite"):
        compare("a", {"x": [0.1]}, "b", {"x": [math.nan]}, COSINE)
