"""Two evaluations, prompt by prompt."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from clipwatch.statistics.anytime import LEVEL, critical, p_value
from clipwatch.statistics.comparison import Comparison, Verdict
from clipwatch.statistics.flips import flips, rank
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, shared_means

POWER: Final = 0.8
ROUNDING: Final = 1e-12


def compare(
    a_id: str, a: Scores, b_id: str, b: Scores, scale: Scale, *, stopped: int = 0
) -> Comparison:
    """Compare two evaluations on the prompts and images that they share; differences are b - a.

    A prompt's difference d is that of its two means, and 0 within the scale's tie. One test gives
    p, interval and verdict, so they never contradict each other: the flips of signs (see `flips`)
    of the mean difference, two-sided, seeded; with 14 prompts or fewer all of them, which is exact.
    The interval holds the shifts that the test does not reject. Turning the signs of a set of
    prompts makes the shift s look as far off as it is, or farther, once s passes the mean of d over
    the set or over the rest; so the interval's ends are order statistics of those means (Hartigan
    1969, "Using subsample values as typical values", JASA 64). Where differences are as likely d as
    -d around their centre it covers at least 95 % for any number of prompts, no normal law
    supposed; skewed ones it covers like Student's interval does.

    With fewer than six prompts nothing can be shown at 5 %: the interval is all that a difference
    can be in that scale, -2..2 for cosines. `detectable` is (t(0.975) + t(0.8)) * sd / sqrt(P),
    both with P - 1 degrees (Bloom 1995, "Minimum detectable effects"); six prompts show it in 62 %
    only.

    Of an evaluation that ended by what its difference to another was, interval and p are those of
    `anytime`, which hold whenever one stops; `detectable` is of one look all the same. `stopped` is
    among how many others that one was chosen: they hold for all of these at once. 0 for one that
    did not.

    Raises:
        ValueError: They share no scored prompt, or a score is not finite.
    """
    means = np.array(shared_means([a, b]))
    differences = means[:, 1] - means[:, 0]
    differences[np.abs(differences) <= scale.tie] = 0.0
    delta = math.fsum(differences) / len(differences)
    low, high, p = (
        _sequence(differences, delta, scale, stopped)
        if stopped
        else _invert(differences, delta, scale)
    )
    return Comparison(
        a=a_id,
        b=b_id,
        n_prompts=len(differences),
        delta=delta,
        low=low,
        high=high,
        p=p,
        wins=int(np.count_nonzero(differences > 0)),
        ties=int(np.count_nonzero(differences == 0)),
        losses=int(np.count_nonzero(differences < 0)),
        detectable=_detectable(differences, scale),
        verdict=verdict(low, high),
        stopped=bool(stopped),
    )


def _invert(
    differences: NDArray[np.float64], delta: float, scale: Scale
) -> tuple[float, float, float]:
    """Return the interval's ends and p."""
    prompts = len(differences)
    total = differences.sum()
    lows, highs = [np.empty(0)], [np.empty(0)]
    for turned in flips(prompts, seed=0):
        sums, sizes = turned @ differences, turned.sum(axis=1)
        inside = np.divide(sums, sizes, out=np.full_like(sums, -np.inf), where=sizes > 0)
        rest = np.divide(
            total - sums, prompts - sizes, out=np.full_like(sums, np.inf), where=sizes < prompts
        )
        lows.append(np.minimum(inside, rest))
        highs.append(np.maximum(inside, rest))
    rounding = ROUNDING * max(1.0, float(np.abs(differences).max()))
    low, high = (_settle(np.concatenate(it), rounding) for it in (lows, highs))
    reached = low <= 0 if delta >= 0 else high >= 0
    p = (1 + int(np.count_nonzero(reached))) / (1 + len(reached))
    place = rank(prompts)
    if place == 0:
        return -scale.bound, scale.bound, p
    return float(np.sort(low)[place - 1]), float(np.sort(high)[-place]), p


def _sequence(
    differences: NDArray[np.float64], delta: float, scale: Scale, among: int
) -> tuple[float, float, float]:
    """Return the ends of the interval that holds at every look, and p."""
    prompts = len(differences)
    factor = critical(prompts, LEVEL / among)
    if math.isinf(factor):
        return -scale.bound, scale.bound, 1.0
    se = float(differences.std(ddof=1)) / math.sqrt(prompts)
    t = delta / se if se else math.copysign(math.inf, delta) if delta else 0.0
    p = min(1.0, among * p_value(prompts, t))
    return delta - factor * se, delta + factor * se, p


def _settle(means: NDArray[np.float64], rounding: float) -> NDArray[np.float64]:
    """Take means for 0 that differ from it by the rounding of their sums."""
    return np.where(np.abs(means) < rounding, 0.0, means)


def _detectable(differences: NDArray[np.float64], scale: Scale) -> float:
    prompts = len(differences)
    if rank(prompts) == 0:
        return scale.bound
    se = float(differences.std(ddof=1)) / math.sqrt(prompts)
    return float(stdtrit(prompts - 1, 0.975) + stdtrit(prompts - 1, POWER)) * se


def verdict(low: float, high: float) -> Verdict:
    """Return what an interval of b - a says of b."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "inconclusive"
