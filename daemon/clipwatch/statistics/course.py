"""The course of a training: whether its mean fell, and whether it still rises.

Both are said of the curve's true means, which are not known for two reasons: other prompts would
give other means, and a training that goes nowhere wiggles, so that a checkpoint's true mean says
little of where the training is. A standard error here holds both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.means import Means

RECENT: Final = 2
"""Checkpoints that say where the training is: a single one may be bad luck."""

LEVEL: Final = 5
"""Checkpoints whose mean is a level of the curve."""

LONG: Final = 10
"""Checkpoints whose mean is a steadier one."""

LEAST: Final = 15
"""Checkpoints that a trend needs."""

KNOWN: Final = 20
"""Checkpoints from which on the wiggle is measured."""

KEPT: Final = 0.8
NORMAL: Final = 0.5586
"""The share of bends that is used, the smallest, and their mean in standard deviations."""


@dataclass(frozen=True, slots=True)
class Fall:
    """How far the last two checkpoints are below earlier ones; cosines, below 0 for a rise.

    Attributes:
        seen: Below the level that shows it most.
        surely: By at least so much (see `means.SURE`).
        apparent: The most that the last two, or the last one alone, are below any level.
    """

    seen: float
    surely: float
    apparent: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Over a period of so many steps the mean surely rose by less than `below`, a cosine."""

    steps: int
    below: float


def fall(means: Means, worth: float) -> Fall:
    """Say how far the last two checkpoints are below the levels that the training had.

    Their mean is compared with the mean of each five checkpoints in a row before them, with the
    last one of those, and with half that and half the mean of the last ten, which is nearer the
    truth where scores of neighbours are alike.

    Args:
        means: In the order of the steps.
        worth: A difference that matters.

    Returns:
        All -inf for fewer than three checkpoints, `surely` so for fewer than six prompts.
    """
    before = len(means) - RECENT
    if before < 1:
        return Fall(-math.inf, -math.inf, -math.inf)
    levels = np.pad(_levels(before), ((0, 0), (0, RECENT)))
    now = np.zeros(len(means))
    now[-RECENT:] = 1 / RECENT
    seen, variances = means.combined(levels - now)
    variances += wiggle(means[:before], worth) ** 2 * ((levels - now) ** 2).sum(axis=1)
    surely = seen - means.sure * np.sqrt(variances)
    most = int(np.argmax(surely))
    apparent = float((levels @ means.values).max()) - min(means.values[-1], now @ means.values)
    return Fall(float(seen[most]), float(surely[most]), apparent)


def _levels(count: int) -> NDArray[np.float64]:
    size, long = min(LEVEL, count), min(LONG, count)
    rows = [np.eye(count)[-1], np.eye(count)[-1] / 2]
    rows[1][-long:] += 0.5 / long
    runs = np.lib.stride_tricks.sliding_window_view(np.eye(count), size, axis=0).mean(axis=-1)
    return np.vstack([*rows, runs])


def gain(steps: Sequence[int], means: Means, stretch: int, worth: float) -> Gain:
    """Return what the training surely gains less than, over `stretch` steps or more to its end.

    The gain is that of a straight line through the means, by step; of the periods that are long
    enough and hold `LEAST` checkpoints the one counts that says most. Infinite where there is none.

    Args:
        steps: Of the means, ascending.
        means: In that order.
        stretch: Steps, above 0.
        worth: A difference that matters.
    """
    periods = [steps[-1] - step for step in steps[: max(0, len(steps) - LEAST + 1)]]
    periods = [period for period in periods if period >= stretch]
    if not periods:
        return Gain(0, math.inf)
    weights = np.zeros((len(periods), len(means)))
    for start, (row, period) in enumerate(zip(weights, periods, strict=True)):
        at = np.array(steps[start:], dtype=np.float64)
        at -= at.mean()
        row[start:] = at * period / (at @ at)
    gains, variances = means.combined(weights)
    variances += wiggle(means, worth) ** 2 * (weights**2).sum(axis=1)
    below = gains + means.sure * np.sqrt(variances)
    least = int(np.argmin(below))
    return Gain(periods[least], float(below[least]))


def wiggle(means: Means, worth: float) -> float:
    """Return the standard deviation by which true means go up and down between checkpoints.

    Found from the bends m(t-1) - 2 m(t) + m(t+1), which no steady rise moves, less what the
    prompts explain of them. A fifth of them is left out, so that a fall or a steep beginning does
    not count, and what is found is raised by about its own standard error. From fewer than `KNOWN`
    checkpoints nothing can be found; then it is three fifths of `worth`.
    """
    if len(means) < KNOWN:
        return 0.6 * worth
    bends = np.abs(means.values[:-2] - 2 * means.values[1:-1] + means.values[2:])
    own, next_, after = (np.diagonal(means.covariance, offset) for offset in (0, 1, 2))
    noise = own[:-2] + 4 * own[1:-1] + own[2:] - 4 * next_[:-1] - 4 * next_[1:] + 2 * after
    kept = np.sort(bends)[: round(KEPT * len(bends))]
    beyond = max(0.0, float((kept.mean() / NORMAL) ** 2 - noise.mean())) / 6
    return max(worth / 10, math.sqrt(beyond) * (1 + 1 / math.sqrt(len(bends))))
