"""Many evaluations at once: which is the best, and which cannot be told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.flips import flips, rank
from clipwatch.statistics.paired import BOUND, TIE
from clipwatch.statistics.scores import Scores, shared_means

Interval = tuple[float, float, float]
"""A difference of means, and the ends of its interval."""


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the highest mean, and how sure that is.

    Attributes:
        best: Its id; of equal ones the first.
        tied: Those that cannot be told from it, in the order given.
        n_prompts: Prompts that all have scores of.
        differences: Each of the others less the best; the intervals hold all at once, 95 %.
    """

    best: str
    tied: tuple[str, ...]
    n_prompts: int
    differences: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Plateau:
    """Whether an evaluation still improves.

    Attributes:
        reached: None of the recent ones is better than `best`, nor could be by `worth`.
        best: The best of the earlier ones.
        within: No recent one is better than `best` by more than this, 95 % sure.
    """

    reached: bool
    best: str
    within: float


def best_of(evaluations: Mapping[str, Scores], seed: int = 0) -> Best:
    """Find the best evaluation on the prompts and images that all share.

    Whoever picks the highest of many picks luck too. So each difference gets the interval

        difference -/+ c * sd / sqrt(P)

    with one c for all pairs: 95 % of the flips of signs (see `flips`; a prompt's sign is turned in
    all evaluations at once, which keeps what they have in common) have no pair with a greater
    |t|. That is the single-step max-T of Westfall and Young 1993 ("Resampling-based multiple
    testing", section 2.3) on Tukey's family of all pairs, which holds whichever is picked as the
    best. If several evaluations are equal, 5 % is the chance that any of them is told from the
    best. With fewer than six prompts nothing can be told, and the intervals are -2..2.

    Args:
        evaluations: By id.
        seed: Of the flips.

    Raises:
        ValueError: There is none, they share no scored prompt, or a score is not finite.
    """
    names = list(evaluations)
    table = np.array(shared_means(list(evaluations.values())))
    best = _highest(table)
    others = [index for index in range(len(names)) if index != best]
    factor = _factor(table, *np.triu_indices(len(names), 1), seed)
    differences = {names[other]: _interval(table, other, best, factor) for other in others}
    tied = tuple(name for name, (_, _, high) in differences.items() if high >= -TIE)
    return Best(names[best], tied, len(table), differences)


def plateau(
    earlier: Mapping[str, Scores], recent: Mapping[str, Scores], worth: float = 0.005, seed: int = 0
) -> Plateau:
    """Say whether the recent evaluations have stopped to improve on the earlier ones.

    Not to see a difference is no plateau where noise would have hidden it. So the intervals of
    `best_of`, here for each pair of an earlier and a recent one, must show both: no recent one
    better than the best of the earlier (low above 0), and all of them less than `worth` better
    (high below it). The second is a test of non-inferiority, which needs no power computed
    afterwards (Hoenig and Heisey 2001, "The abuse of power"). If a recent one is better by `worth`
    or more, 5 % is the chance that a plateau is called.

    Args:
        earlier: By id.
        recent: By id.
        worth: A gain in mean cosine that is worth going on for.
        seed: Of the flips.

    Raises:
        ValueError: One of both is empty, no scored prompt is shared, or a score is not finite.
    """
    if not earlier or not recent:
        raise ValueError("a plateau needs earlier and recent evaluations")
    table = np.array(shared_means([*earlier.values(), *recent.values()]))
    split = len(earlier)
    best = _highest(table[:, :split])
    later = range(split, table.shape[1])
    firsts, seconds = np.repeat(range(split), len(later)), np.tile(later, split)
    factor = _factor(table, firsts, seconds, seed)
    found = [_interval(table, index, best, factor) for index in later]
    within = max(high for _, _, high in found)
    reached = within < worth and all(low <= TIE for _, low, _ in found)
    return Plateau(reached, list(earlier)[best], within)


def _highest(table: NDArray[np.float64]) -> int:
    means = table.mean(axis=0)
    return int(np.argmax(means >= means.max() - TIE))


def _interval(table: NDArray[np.float64], index: int, best: int, factor: float) -> Interval:
    difference = table[:, index] - table[:, best]
    delta = float(difference.mean())
    if math.isinf(factor):
        return delta, -BOUND, BOUND
    half = factor * float(difference.std(ddof=1)) / math.sqrt(len(table))
    return delta, delta - half, delta + half


def _factor(
    table: NDArray[np.float64], firsts: NDArray[np.intp], seconds: NDArray[np.intp], seed: int
) -> float:
    """Return c, the |t| that the largest of the pairs passes in 5 % of the flips.

    For a pair the sum of squares is the same in all flips, and r = (sum)^2 / (P * sum of squares),
    0..1, grows with |t|: t^2 = (P - 1) * r / (1 - r). So the largest r is enough.
    """
    prompts = len(table)
    place = rank(prompts)
    if place == 0:
        return math.inf
    if len(firsts) == 0:
        return 0.0
    products = table.T @ table
    squares = np.diag(products)
    scale = prompts * (squares[firsts] + squares[seconds] - 2 * products[firsts, seconds])
    alike = scale <= (prompts * TIE) ** 2
    weights = np.where(alike, 0.0, 1 / np.where(alike, 1.0, scale))
    largest = [
        np.max((signed[:, firsts] - signed[:, seconds]) ** 2 * weights, axis=1)
        for turned in flips(prompts, seed, len(firsts))
        for signed in [(1 - 2 * turned) @ table]
    ]
    ratio = float(np.sort(np.concatenate(largest))[-place])
    return math.sqrt((prompts - 1) * ratio / (1 - ratio)) if ratio < 1 else math.inf
