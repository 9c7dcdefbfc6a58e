"""What is said of the highest of several means: it was picked by looking, so luck was picked too.

A plain interval of the winner's mean, or of another's difference to it, lies too high or too low:
of twenty equal checkpoints the highest seems better than it is. The hybrid interval of Andrews,
Kitagawa and McCloskey 2024 ("Inference on winners", Quarterly Journal of Economics 139) knows
that. Given which mean won, and given all in the data that does not vary with the estimate, the
estimate is a normal variable that is cut off where another would have won (as in Lee, Sun, Sun
and Taylor 2016, "Exact post-selection inference", Annals of Statistics 44); the interval holds the
truths under which the estimate is no rarity. Where two means lie close that alone can get very
long, so it is kept within simultaneous intervals of all candidates. It covers 95 to 95.5 %,
whether all are equal or one is the best by far; then it is Student's interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from clipwatch.statistics.comparison import Comparison
from clipwatch.statistics.means import FEWEST, Means
from clipwatch.statistics.paired import compare, verdict
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, common

ALPHA: Final = 0.05
SPARE: Final = ALPHA / 10
"""Of it what the simultaneous intervals take, as the authors advise."""

HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Picked:
    """An estimate that belongs to the highest of several means.

    Attributes:
        winner: The place of the highest; of equal ones the first.
        value: The winner's mean, or the newest one's less the winner's.
        low, high: 95 % interval of its true value, corrected for the picking.
        p: Two-sided p-value of "it is 0" that agrees with the interval, 0.005..1.
    """

    winner: int
    value: float
    low: float
    high: float
    p: float


def winners_mean(means: Means, scale: Scale) -> Picked:
    """Return the highest mean with an interval that holds its true value."""
    return _picked(means, np.eye(len(means)), np.eye(len(means)), scale)


def against_winner(means: Means, scale: Scale) -> Picked:
    """Return how the last mean differs from the highest of those before it.

    Args:
        means: Two at least.
        scale: Of the scores.
    """
    count = len(means) - 1
    candidates = np.eye(count, count + 1)
    return _picked(means, candidates, np.eye(count + 1)[-1] - candidates, scale)


def compare_with_best(
    candidates: Mapping[str, Scores], name: str, scores: Scores, scale: Scale
) -> Comparison:
    """Compare an evaluation (b) with the highest of others (a), on what all of them share.

    As `paired.compare` does, but interval, p and verdict are corrected for the picking.

    Args:
        candidates: By id, at least one.
        name: The evaluation's id.
        scores: Its scores.
        scale: Of all of them.

    Raises:
        ValueError: They share no scored prompt, or a score is not finite.
    """
    tables = common([*candidates.values(), scores])
    found = against_winner(Means.shared(tables), scale)
    best = list(candidates)[found.winner]
    plain = compare(best, tables[found.winner], name, tables[-1], scale)
    picked = len(candidates)
    if plain.wins == plain.losses == 0:
        return replace(plain, picked=picked)
    low, high = found.low, found.high
    told = verdict(low, high)
    return replace(
        plain, delta=found.value, low=low, high=high, p=found.p, verdict=told, picked=picked
    )


def _picked(
    means: Means, candidates: NDArray[np.float64], told: NDArray[np.float64], scale: Scale
) -> Picked:
    """Pick the highest candidate and say what is told of it; both are rows of weights."""
    values = candidates @ means.values
    winner = int(
        np.argmax(values)
    )  # a tie within the scale's would be another selection, and cover less
    estimate = float(told[winner] @ means.values)
    deviation = math.sqrt(float(means.combined(told[winner])[1][0]))
    if means.prompts < FEWEST:
        return Picked(winner, estimate, -scale.bound, scale.bound, 1.0)
    student = float(stdtrit(means.prompts - 1, 1 - ALPHA / 2) / ndtri(1 - ALPHA / 2))
    deviation *= student
    if deviation == 0.0:
        return Picked(winner, estimate, estimate, estimate, float(estimate == 0.0))
    leads = values[winner] - values
    moves = (candidates[winner] - candidates) @ means.covariance @ told[winner]
    moves *= student**2 / deviation**2  # how each lead grows with the estimate
    rises, falls = moves > 0, moves < 0
    cut = (
        float((-leads[rises] / moves[rises]).max(initial=-math.inf)),
        float((-leads[falls] / moves[falls]).min(initial=math.inf)),
    )
    cut = (min(cut[0] / deviation, 0.0), max(cut[1] / deviation, 0.0))
    reach = float(-ndtri(SPARE / (2 * len(values))))
    tail = (ALPHA - SPARE) / (1 - SPARE) / 2
    low = estimate + deviation * _solve(1 - tail, cut, reach)
    high = estimate + deviation * _solve(tail, cut, reach)
    share = _share(-estimate / deviation, cut, reach)
    return Picked(winner, estimate, low, high, SPARE + (1 - SPARE) * 2 * min(share, 1 - share))


def _solve(share: float, cut: tuple[float, float], reach: float) -> float:
    """Return the truth, less the estimate, under which so much of the law lies below the latter."""
    low, high = -reach, reach
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _share(middle, cut, reach) > share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _share(truth: float, cut: tuple[float, float], reach: float) -> float:
    """Return how much of the normal law around a truth, cut off at both ends, lies below 0.

    All in standard deviations from the estimate, which is 0; `reach` is how far the simultaneous
    intervals let the truth be from it.
    """
    if abs(truth) >= reach:
        return float(truth < 0)
    least, most = max(cut[0], truth - reach) - truth, min(cut[1], truth + reach) - truth
    if truth < 0:  # by the upper tail, which keeps its digits
        whole, below = ndtr(-least) - ndtr(-most), ndtr(-least) - ndtr(truth)
    else:
        whole, below = ndtr(most) - ndtr(least), ndtr(-truth) - ndtr(least)
    return float(min(max(below / whole, 0.0), 1.0)) if whole > 0 else float(truth < 0)
