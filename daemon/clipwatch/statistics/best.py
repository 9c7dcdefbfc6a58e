"""Many evaluations at once: which is the best, and which cannot be told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.candidates import candidates
from clipwatch.statistics.flips import LEVEL, flips, rank
from clipwatch.statistics.means import Means
from clipwatch.statistics.picked import winners_mean
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, shared_means

Interval = tuple[float, float, float]
"""A mean or a difference of means, and the ends of its interval."""


def turned(it: Interval) -> Interval:
    """Return what it is of numbers with the other sign."""
    value, low, high = it
    return -value, -high, -low


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the highest mean, and how sure that is.

    Attributes:
        best: Its id; of equal ones the first.
        mean: Its mean, with the ends of a 95 % interval that knows it was picked (see `picked`).
        tied: Those that cannot be told from it, in the order given.
        candidates: Those that may be the best in truth, itself among them (see `candidates`).
        n_prompts: Prompts that all have scores of.
        differences: Each of the others less the best; the intervals hold all at once, 95 %.
    """

    best: str
    mean: Interval
    tied: tuple[str, ...]
    candidates: tuple[str, ...]
    n_prompts: int
    differences: Mapping[str, Interval]


def best_of(
    evaluations: Mapping[str, Scores], scale: Scale, seed: int = 0, spent: float = 0.0
) -> Best:
    """Find the best evaluation on the prompts and images that all share.

    Whoever picks the highest of many picks luck too. So each difference gets the interval

        difference -/+ c * sd / sqrt(P)

    with one c for all pairs: 95 % of the flips of signs (see `flips`; a prompt's sign is turned in
    all evaluations at once, which keeps what they have in common) have no pair with a greater
    |t|. That is the single-step max-T of Westfall and Young 1993 ("Resampling-based multiple
    testing", section 2.3) on Tukey's family of all pairs, which holds whichever is picked as the
    best. If several evaluations are equal, 5 % is the chance that any of them is told from the
    best. With fewer than six prompts nothing can be told, and the intervals are all that a
    difference can be in the scale, -2..2 for cosines.

    Args:
        evaluations: By id.
        scale: Of their scores.
        seed: Of the flips.
        spent: Of the 5 %, what was used up to leave others out before (see `racing`).

    Raises:
        ValueError: There is none, they share no scored prompt, or a score is not finite.
    """
    names = list(evaluations)
    table = np.array(shared_means(list(evaluations.values())))
    own = winners_mean(Means.of(table), scale)
    best = own.winner
    others = [index for index in range(len(names)) if index != best]
    level = LEVEL - spent
    factor = _factor(table, *np.triu_indices(len(names), 1), scale, seed, level)
    differences = {names[other]: _interval(table, other, best, factor, scale) for other in others}
    tied = tuple(name for name, (_, _, high) in differences.items() if high >= -scale.tie)
    mean = (own.value, own.low, own.high)
    may_be = tuple(names[place] for place in candidates(table, scale, seed, level))
    return Best(names[best], mean, tied, may_be, len(table), differences)


class Together:
    """Evaluations of which somebody may have looked at all pairs, to pick two; see `best_of`.

    Args:
        evaluations: By id.
        scale: Of their scores.
        seed: Of the flips.

    Raises:
        ValueError: They share no scored prompt, or a score is not finite.
    """

    def __init__(self, evaluations: Mapping[str, Scores], scale: Scale, seed: int = 0) -> None:
        self._names, self._scale = list(evaluations), scale
        self._table = np.array(shared_means(list(evaluations.values())))
        pairs = np.triu_indices(len(self._names), 1)
        self._factor = _factor(self._table, *pairs, scale, seed)

    def interval(self, a: str, b: str) -> Interval:
        """Return b less a with the interval that holds for all pairs at once."""
        first, second = self._names.index(a), self._names.index(b)
        return _interval(self._table, second, first, self._factor, self._scale)


def _interval(
    table: NDArray[np.float64], index: int, best: int, factor: float, scale: Scale
) -> Interval:
    difference = table[:, index] - table[:, best]
    delta = float(difference.mean())
    if math.isinf(factor):
        return delta, -scale.bound, scale.bound
    half = factor * float(difference.std(ddof=1)) / math.sqrt(len(table))
    if 0 < np.square(difference).mean() <= scale.tie**2:  # of which the factor knows nothing
        half = max(half, scale.tie)
    return delta, delta - half, delta + half


def _factor(
    table: NDArray[np.float64],
    firsts: NDArray[np.intp],
    seconds: NDArray[np.intp],
    scale: Scale,
    seed: int,
    level: float = LEVEL,
) -> float:
    """Return c, the |t| that the largest of the pairs passes in that share of the flips.

    For a pair the sum of squares is the same in all flips, and r = (sum)^2 / (P * sum of squares),
    0..1, grows with |t|: t^2 = (P - 1) * r / (1 - r). So the largest r is enough.
    """
    prompts = len(table)
    place = rank(prompts, level)
    if place == 0:
        return math.inf
    if len(firsts) == 0:
        return 0.0
    products = table.T @ table
    squares = np.diag(products)
    spread = prompts * (squares[firsts] + squares[seconds] - 2 * products[firsts, seconds])
    alike = spread <= (prompts * scale.tie) ** 2
    weights = np.where(alike, 0.0, 1 / np.where(alike, 1.0, spread))
    largest = [
        np.max((signed[:, firsts] - signed[:, seconds]) ** 2 * weights, axis=1)
        for turned in flips(prompts, seed, len(firsts))
        for signed in [(1 - 2 * turned) @ table]
    ]
    ratio = float(np.sort(np.concatenate(largest))[-place])
    return math.sqrt((prompts - 1) * ratio / (1 - ratio)) if ratio < 1 else math.inf
