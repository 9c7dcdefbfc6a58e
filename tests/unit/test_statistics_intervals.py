"""One evaluation by itself: mean, clustered error, interval, categories, quantiles."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clipwatch.statistics import summarize
from clipwatch.statistics.intervals import by_category, describe, quantiles
from clipwatch.statistics.scores import Scores
from score_tables import noisy, tables


@given(tables())
def test_describe_equals_summarize(scores: Scores) -> None:
    """Mean, extremes and spread are those of `summarize` for the same images, bit by bit."""
    found = describe(scores)
    plain = summarize([score for row in scores.values() for score in row])
    assert (found.mean, found.min, found.max) == (plain.mean, plain.min, plain.max)
    assert (found.std, found.n, found.prompts) == (plain.std, plain.n, len(scores))


@given(tables(), st.randoms(use_true_random=False))
def test_describe_ignores_order(scores: Scores, shuffler: random.Random) -> None:
    """Prompts in another order change no figure."""
    names = list(scores)
    shuffler.shuffle(names)
    assert describe({name: scores[name] for name in names}) == describe(scores)


@given(tables(smallest=2), st.floats(-0.5, 0.5))
def test_describe_shifts(scores: Scores, shift: float) -> None:
    """A constant added to all scores moves the interval by it, and leaves the error."""
    found = describe({name: [score + shift for score in row] for name, row in scores.items()})
    plain = describe(scores)
    assert plain.se is not None
    assert plain.low is not None
    assert found.se == pytest.approx(plain.se, abs=1e-12)
    assert found.low == pytest.approx(plain.low + shift, abs=1e-11)


@pytest.mark.parametrize("images", [1, 4])
def test_interval_is_students(images: int) -> None:
    """With equally many images, error and interval are scipy's of the prompts' means."""
    scores = noisy(40, [0.0], images=images)["0"]
    means = [float(np.mean(row)) for row in scores.values()]
    found = describe(scores)
    expected = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert found.se == pytest.approx(float(stats.sem(means)), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


def test_unequal_prompts_are_clustered() -> None:
    """With unequal numbers of images the error is the cluster-robust one, worked by hand.

    Mean 0.3 of n = 4 images; sums of distances 0.1 - 0.1 = 0 (a), 0.1 (b), -0.1 (c):
    3/2 * (0.01 + 0.01) / 16.
    """
    found = describe({"a": [0.4, 0.2], "b": [0.4], "c": [0.2]})
    assert found.se == pytest.approx(math.sqrt(1.5 * 0.02 / 16))
    assert found.high == pytest.approx(0.3 + 4.302653 * math.sqrt(1.5 * 0.02 / 16), rel=1e-6)


def test_images_of_a_prompt_are_no_new_prompts() -> None:
    """The same image four times over leaves the error as it was."""
    once = noisy(30, [0.0])["0"]
    found = describe({name: [*row] * 4 for name, row in once.items()})
    assert found.se == pytest.approx(describe(once).se)


def test_one_prompt_has_no_interval() -> None:
    """One prompt, however many images, has a mean and no interval; prompts without images none."""
    found = describe({"a": [0.2, 0.3, 0.4], "b": []})
    assert found.mean == pytest.approx(0.3)
    assert (found.prompts, found.se, found.low, found.high) == (1, None, None, None)


@pytest.mark.parametrize(
    "scores", [{}, {"a": []}, {"a": [math.nan]}, {"a": [0.1], "b": [math.inf]}]
)
def test_describe_refuses(scores: Scores) -> None:
    """Nothing, or what is no number, is refused."""
    with pytest.raises(ValueError, match=r"no scores|not finite"):
        describe(scores)


def test_categories() -> None:
    """Each category is described by itself, sorted; prompts of none are left out."""
    scores = {"a": [0.1], "b": [0.2], "c": [0.3], "d": [0.9], "e": [0.8], "f": []}
    categories = {"a": "style", "b": "style", "c": "animals", "d": "", "f": "empty"}
    found = by_category(scores, categories)
    assert list(found) == ["animals", "style"]
    assert found["style"] == describe({"a": [0.1], "b": [0.2]})
    assert found["animals"].n == 1


def test_quantiles_are_of_prompts() -> None:
    """Quantiles are those of prompts' means; a prompt with many images counts once."""
    scores = {"a": [0.1] * 9, "b": [0.2, 0.4], "c": [0.5], "d": []}
    assert quantiles(scores, (0.0, 0.25, 0.5, 1.0)) == pytest.approx((0.1, 0.2, 0.3, 0.5))
    with pytest.raises(ValueError, match="no scores"):
        quantiles({})


def test_the_daemon_imports_nothing_heavy() -> None:
    """What the daemon imports of the statistics, and the stopping rule, load no numpy."""
    code = (
        "import sys, clipwatch.statistics, clipwatch.statistics.sequential; "
        "sys.exit(bool({'numpy', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
