"""The mean of all prompts, told from a part of them and from evaluations that have all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from clipwatch.statistics.intervals import describe
from clipwatch.statistics.part import FEWEST, told_from
from clipwatch.statistics.scores import Scores

Array = NDArray[np.float64]


def scores(values: Array, images: int = 1) -> Scores:
    return {f"{n:04}": [value] * images for n, value in enumerate(values.tolist())}


def pair(seed: int, alike: float, prompts: int = 800) -> tuple[Array, Array]:
    """Draw two evaluations of so many prompts, with a spread of 0.03."""
    generator = np.random.default_rng(seed)
    common, *own = (generator.normal(size=prompts) for _ in range(3))
    a, b = (0.3 + 0.03 * (math.sqrt(alike) * common + math.sqrt(1 - alike) * it) for it in own)
    return a, b


def test_what_follows_another_exactly_is_known_exactly() -> None:
    """The estimate is the mean of all prompts, as sure as if all were there."""
    whole, _ = pair(0, 0.8)
    own = 0.05 + 0.9 * whole
    found = told_from(scores(own[:40]), [scores(whole)], stopped=False)
    assert found
    assert found.summary.mean == pytest.approx(own.mean(), abs=1e-12)
    assert found.effective == pytest.approx(800, rel=1e-6)
    assert found.plain == pytest.approx(own[:40].mean())
    plain = describe(scores(own))
    assert found.summary.se == pytest.approx(plain.se, rel=1e-6)
    assert (found.summary.low, found.summary.high) == pytest.approx(
        (plain.low, plain.high), abs=1e-9
    )


def test_it_is_the_mean_of_what_a_fit_foretells() -> None:
    """With two others, by the least squares of numpy: all prompts foretold, and averaged."""
    first, own = pair(1, 0.7)
    second = pair(2, 0.5)[0] + 0.3 * first
    found = told_from(scores(own[:90]), [scores(first), scores(second)], stopped=False)
    every = np.column_stack([np.ones(800), first, second])
    fit, *_ = np.linalg.lstsq(every[:90], own[:90], rcond=None)
    assert found
    assert found.summary.mean == pytest.approx(float((every @ fit).mean()), abs=1e-12)


def test_what_is_told_of_the_part_stays() -> None:
    """Images, prompts, the lowest, the highest and the spread are those that were made."""
    whole, own = pair(3, 0.8)
    part = scores(own[:60], images=2)
    found, plain = told_from(part, [scores(whole)], stopped=True), describe(part)
    assert found
    for name in ("n", "prompts", "min", "max", "std"):
        assert getattr(found.summary, name) == getattr(plain, name)


@pytest.mark.parametrize(
    ("alike", "least", "most"), [(0.0, 0.8, 1.1), (0.6, 1.2, 1.7), (0.95, 5, 9)]
)
def test_it_is_worth_more_images_the_more_alike_they_are(
    alike: float, least: float, most: float
) -> None:
    """About n / ((1 - r^2) + r^2 n / N) of them, on average over some."""
    gains = [
        found.effective / 80
        for seed in range(20)
        for whole, own in [pair(seed, alike)]
        if (found := told_from(scores(own[:80]), [scores(whole)], stopped=False))
    ]
    assert len(gains) == 20
    assert least < sum(gains) / 20 < most


@pytest.mark.thorough
def test_its_interval_holds() -> None:
    """The true mean lies in it in 95 of 100 cases, but for luck; in more where it ended so."""
    held = dict.fromkeys((False, True), 0)
    for seed in range(400):
        whole, own = pair(seed, 0.8)
        for stopped in held:
            found = told_from(scores(own[:100]), [scores(whole)], stopped=stopped)
            assert found
            assert found.summary.low is not None
            assert found.summary.high is not None
            held[stopped] += found.summary.low <= 0.3 <= found.summary.high
    assert 400 * 0.95 - 3 * math.sqrt(19) <= held[False] <= 400 * 0.95 + 3 * math.sqrt(19)
    assert held[True] >= held[False]


def test_too_little_tells_nothing() -> None:
    """Without another evaluation, or with hardly a prompt for each."""
    whole, own = pair(4, 0.8)
    assert told_from(scores(own[:100]), [], stopped=False) is None
    assert told_from(scores(own[: 2 * FEWEST - 1]), [scores(whole)], stopped=False) is None
    assert told_from(scores(own[: 2 * FEWEST]), [scores(whole)], stopped=False)
    strange = {f"x{n}": [0.3] for n in range(100)}
    assert told_from(scores(own[:100]), [strange], stopped=False) is None


def test_others_that_say_the_same_count_once() -> None:
    """The same evaluation twice, or one whose scores are all equal, changes no mean."""
    whole, own = pair(5, 0.8)
    once, twice, flat = (
        told_from(scores(own[:100]), others, stopped=False)
        for others in (
            [scores(whole)],
            [scores(whole), scores(whole)],
            [scores(whole), scores(np.full(800, 0.3))],
        )
    )
    assert once
    assert twice
    assert flat
    assert once.summary.mean == pytest.approx(twice.summary.mean, abs=1e-9)
    assert once.summary.mean == pytest.approx(flat.summary.mean, abs=1e-9)
