"""Whether a curve fell, and whether it still rises: with a size, and by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipwatch.statistics.course import fall, gain, lag, wiggle
from clipwatch.statistics.means import Means

WORTH = 0.005


def curve(true: list[float], prompts: int = 400, noise: float = 0.01, seed: int = 0) -> Means:
    """Score prompts of one difficulty each at checkpoints whose true means are given."""
    generator = np.random.default_rng(seed)
    effects = generator.normal(0, 0.03, (prompts, 1))
    return Means.of(effects + true + noise * generator.normal(size=(prompts, len(true))))


def test_means_and_covariance_are_numpys() -> None:
    """Covariance is that of the means; a part is a part of both."""
    table = np.random.default_rng(0).normal(size=(50, 4))
    means = Means.of(table)
    assert means.values == pytest.approx(table.mean(axis=0))
    assert means.covariance == pytest.approx(np.cov(table.T) / 50)
    assert means[1:3].covariance == pytest.approx(means.covariance[1:3, 1:3])
    value, variance = means.combined([1, 0, -1, 0])
    difference = table[:, 0] - table[:, 2]
    assert value[0] == pytest.approx(difference.mean())
    assert variance[0] == pytest.approx(difference.var(ddof=1) / 50)


def test_a_fall_is_seen_at_its_second_checkpoint() -> None:
    """By about its size, and surely by more than `worth`; one checkpoint alone shows half of it."""
    true = [0.3] * 12 + [0.27] * 2
    found = fall(curve(true), WORTH)
    assert found.seen == pytest.approx(0.03, abs=0.004)
    assert WORTH < found.surely < found.seen
    assert fall(curve(true)[:13], WORTH).seen == pytest.approx(0.015, abs=0.004)


def test_few_prompts_suffice_where_what_is_alike_fades() -> None:
    """48 prompts, neighbours alike by 0.6, tell a fall of .03 at its second checkpoint."""
    told = {0.27: 0, 0.3: 0}
    for end in told:
        for seed in range(100):
            generator = np.random.default_rng(seed)
            table = generator.normal(size=(48, 32))
            for place in range(1, 32):
                table[:, place] = 0.6 * table[:, place - 1] + 0.8 * table[:, place]
            means = Means.of([0.3] * 30 + [end] * 2 + 0.0375 * table)
            told[end] += fall(means, WORTH).surely > WORTH
    assert told[0.27] >= 97
    assert told[0.3] <= 1


def test_a_slow_decline_is_seen_from_its_top() -> None:
    """No two neighbours differ by what matters, but the end and the highest level do."""
    true = [0.3] * 10 + [0.3 - 0.001 * n for n in range(30)]
    assert fall(curve(true), WORTH).surely > WORTH
    assert lag(curve(true)) > 0.02


def test_a_rise_is_no_fall() -> None:
    """The last two are above everything."""
    found = fall(curve([0.25 + 0.001 * n for n in range(30)]), WORTH)
    assert found.surely < found.seen < 0


def test_few_checkpoints_or_prompts_show_no_fall() -> None:
    """Two checkpoints have nothing before them, and five prompts no certainty."""
    assert fall(curve([0.3, 0.1]), WORTH).surely == -math.inf
    assert fall(curve([0.3, 0.3, 0.1, 0.1], prompts=5), WORTH).surely == -math.inf


def test_the_wiggle_is_found_beside_noise_rise_and_fall() -> None:
    """A rise, a steep beginning, one fall and the prompts' noise are no wiggle."""
    own = 0.004 * np.random.default_rng(3).normal(size=80)
    true = np.linspace(0.2, 0.3, 80) + own
    true[:5] -= [0.1, 0.06, 0.03, 0.02, 0.01]
    true[50:] -= 0.03
    assert 0.003 < wiggle(curve(list(true)), WORTH) < 0.006
    assert wiggle(curve(list(true - own)), WORTH) < 0.001
    assert wiggle(curve([0.3] * 10), WORTH) == 0.6 * WORTH


@pytest.mark.parametrize(("every", "still"), [(10, True), (100, False), (1000, False)])
def test_a_rise_counts_by_step(every: int, still: bool) -> None:
    """0.00025 a checkpoint is worth going on for where 1,000 steps have 100, not where 10."""
    steps = [every * n for n in range(1, 201)]
    means = curve([0.25 + 0.00025 * n for n in range(200)], prompts=2000)
    found = gain(steps, means, 1000, WORTH)
    assert (found.below >= WORTH) == still
    assert found.steps >= 1000 or found.below == math.inf


def test_a_flat_curve_gains_nothing() -> None:
    """Over the period that says most; a stretch longer than the training says nothing."""
    steps = [100 * n for n in range(1, 41)]
    means = curve([0.3] * 40, prompts=2000)
    found = gain(steps, means, 1000, WORTH)
    assert 1400 <= found.steps <= 3900
    assert 0 < found.below < WORTH
    assert gain(steps, means, 4000, WORTH).below == math.inf
    assert gain(steps[:14], means[:14], 1, WORTH).below == math.inf
