"""The course of a training: whether its mean fell, and whether it still rises.

Both are said of the curve's true means, which are not known for two reasons: other prompts would
give other means, and a training that goes nowhere wiggles, so that a checkpoint's true mean says
little of where the training is. A standard error here holds both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
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

SURE: Final = 0.9995
"""How sure it must be that a training rises no more: that is asked at every checkpoint."""

FELL_JUST_NOW: Final = 0.994
FELL_BEFORE: Final = 0.9999
"""How sure a fall must be: from where the training just was, which is one question at each
checkpoint, and from any earlier level, which is many. So a training of 100 checkpoints that
wiggles raises a false alarm in no more than 5 % (benchmarks/RESULTS.md)."""

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
SPANS: Final = (5, 10, 20)
"""Where a training just was: this share of the latest checkpoint, the rest of the mean of as many
last ones. The latest says most where scores of neighbours are alike, the mean where they are not.
"""

KEPT: Final = 0.8
NORMAL: Final = 0.5586
"""The share of bends that is used, the smallest, and their mean in standard deviations."""


@dataclass(frozen=True, slots=True)
class Fall:
    """How far the last two checkpoints are below earlier ones; cosines, below 0 for a rise.

    Attributes:
        seen: Below the level that shows it most.
        surely: By at least so much (see `FELL_JUST_NOW`).
    """

    seen: float
    surely: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Over a period of so many steps the mean surely rose by less than `below`, a cosine."""

    steps: int
    below: float


def fall(means: Means, worth: float) -> Fall:
    """Say how far the mean of the last two checkpoints is below what was before them.

    Below where the training just was: of the ways to blend the checkpoints before (`SHARES`,
    `SPANS`) the one with the smallest standard error counts, whatever it shows. And below each
    level that it ever had, of which a slow fall leaves one behind.

    Args:
        means: In the order of the steps.
        worth: A difference that matters.

    Returns:
        All -inf for fewer than three checkpoints, `surely` so for fewer than six prompts.
    """
    before = len(means) - RECENT
    if before < 1:
        return Fall(-math.inf, -math.inf)
    blends = _blends(before)
    weights = np.pad(np.vstack([_levels(before), blends]), ((0, 0), (0, RECENT)))
    weights[:, -RECENT:] = -1 / RECENT
    seen, variances = means.combined(weights)
    variances += wiggle(means[:before], worth) ** 2 * (weights**2).sum(axis=1)
    surely = seen - means.errors(FELL_BEFORE) * np.sqrt(variances)
    levels = len(seen) - len(blends)
    sharpest = levels + int(np.argmin(variances[levels:]))
    error = math.sqrt(variances[sharpest])
    surely[sharpest] = seen[sharpest] - means.errors(FELL_JUST_NOW) * error
    most = int(np.argmax(surely))
    return Fall(float(seen[most]), float(surely[most]))


def lag(means: Means) -> float:
    """Return by how much the end may be below what was before it, as it looks; no interval.

    The most that the last checkpoint, the last two or the last five are below a level before them.
    """
    values = means.values
    return max(
        float((_levels(len(values) - last) @ values[:-last]).max() - values[-last:].mean())
        for last in (1, RECENT, LEVEL)
        if len(values) > last
    )


@cache
def _levels(count: int) -> NDArray[np.float64]:
    """Return the levels among so many checkpoints, as weights of their means."""
    size, long = min(LEVEL, count), min(LONG, count)
    latest = np.eye(count)[-1]
    mixed = latest / 2
    mixed[-long:] += 0.5 / long
    places = np.arange(count)
    starts = np.arange(count - size + 1)[:, None]
    runs = ((places >= starts) & (places < starts + size)) / size
    return np.vstack([latest, mixed, runs])


@cache
def _blends(count: int) -> NDArray[np.float64]:
    """Return the ways to blend the last of so many checkpoints, as weights of their means."""
    places = np.arange(count)
    means = {span: (places >= count - span) / span for span in {min(it, count) for it in SPANS}}
    latest = places == count - 1
    blended = [(1 - part) * mean + part * latest for mean in means.values() for part in SHARES]
    return np.array(blended)


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
    at = np.array(steps, dtype=np.float64)
    periods = at[-1] - at[: max(0, len(at) - LEAST + 1)]
    periods = periods[periods >= stretch]
    if not len(periods):
        return Gain(0, math.inf)
    within = np.arange(len(at)) >= np.arange(len(periods))[:, None]
    centres = (within * at).sum(axis=1) / within.sum(axis=1)
    weights = within * (at - centres[:, None])
    weights *= (periods / (weights**2).sum(axis=1))[:, None]
    gains, variances = means.combined(weights)
    variances += wiggle(means, worth) ** 2 * (weights**2).sum(axis=1)
    below = gains + means.errors(SURE) * np.sqrt(variances)
    least = int(np.argmin(below))
    return Gain(int(periods[least]), float(below[least]))


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
