"""What votes on pairs say: how often one is preferred, and what of that may be luck.

A vote that says "no difference" tells nothing of who is preferred and is left out, as in the sign
test (Dixon and Mood 1946).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, ndtri

CONFIDENCE: Final = 0.95

Interval = tuple[float, float, float]
"""How often one is preferred over another, 0..1, and the ends of its interval."""

Won = Mapping[tuple[str, str], int]
"""How many votes chose the first over the second."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """Who is preferred over whom.

    Attributes:
        best: Who is preferred over all others, as it looks; of equal ones the first.
        over: Of each two in both orders, how often the first is preferred over the second. The
            intervals hold for all pairs at once, 95 %.
    """

    best: str
    over: Mapping[tuple[str, str], Interval]

    @property
    def tied(self) -> list[str]:
        """Those that cannot be told from the best."""
        half = 1 / 2
        return [a for (a, b), (_, _, high) in self.over.items() if b == self.best and high >= half]

    def surely(self) -> list[tuple[str, str]]:
        """Return all pairs of whom the first is surely preferred over the second."""
        return [pair for pair, (_, low, _) in self.over.items() if low > 1 / 2]


def preferences(names: Sequence[str], won: Won) -> Preferences | None:
    """Say who is preferred over whom: of two by Wilson's interval, of more by Bradley and Terry.

    Those that no chain of votes joins to most of the others cannot be placed, and are left out.

    Args:
        names: In their order.
        won: Votes between any of them.

    Returns:
        None where there is no vote.
    """
    joined = _joined(names, won)
    if len(joined) < 2:  # noqa: PLR2004 - a pair
        return None
    if len(joined) == 2:  # noqa: PLR2004 - the same
        a, b = joined
        there, back = won.get((a, b), 0), won.get((b, a), 0)
        over = {(a, b): wilson(there, there + back), (b, a): wilson(back, there + back)}
        return Preferences(a if there >= back else b, over)
    strengths, covariance = bradley_terry(_table(joined, won))
    factor = _factor(len(joined))
    over = {}
    for i, j in combinations(range(len(joined)), 2):
        apart = float(strengths[i] - strengths[j])
        half = factor * math.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
        share, low, high = (float(expit(it)) for it in (apart, apart - half, apart + half))
        over[joined[i], joined[j]] = share, low, high
        over[joined[j], joined[i]] = 1 - share, 1 - high, 1 - low
    return Preferences(joined[int(np.argmax(strengths))], over)


def wilson(chosen: int, votes: int) -> Interval:
    """Return a share with Wilson's interval (1927), which holds for few votes and near 0 and 1.

    Args:
        chosen: Votes for it.
        votes: All of them, more than none.
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    share = chosen / votes
    middle = (share + z * z / (2 * votes)) / (1 + z * z / votes)
    half = z / (1 + z * z / votes) * math.sqrt(share * (1 - share) / votes + (z / votes) ** 2 / 4)
    return share, max(0.0, middle - half), min(1.0, middle + half)


def bradley_terry(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return everyone's strength and their covariance; the first's strength is 0.

    The first is preferred over the second with the logit of their difference (Bradley and Terry
    1952). The likelihood is multiplied by the root of its information, which takes the bias of
    few votes away and leaves strengths finite where somebody won all votes (Firth 1993).

    Args:
        table: Votes, K x K, for the row over the column; a chain of them joins all.
    """
    count = len(table)
    firsts, seconds = np.nonzero(np.triu(table + table.T))
    wins, votes = table[firsts, seconds], (table + table.T)[firsts, seconds]
    apart = np.zeros((len(firsts), count))
    apart[np.arange(len(firsts)), firsts] = 1
    apart[np.arange(len(firsts)), seconds] = -1
    apart = apart[:, 1:]

    def information(values: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = expit(apart @ values)
        return np.asarray(apart.T @ ((votes * shares * (1 - shares))[:, None] * apart))

    def unlikely(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = apart @ values
        shares = expit(logits)
        inner = information(values)
        sign, size = np.linalg.slogdet(inner)
        if sign <= 0:  # so far out that nothing is left of it
            return math.inf, np.zeros_like(values)
        spread = np.einsum("pi,ij,pj->p", apart, np.linalg.inv(inner), apart)
        slope = wins - votes * shares + votes * shares * (1 - shares) * spread * (1 / 2 - shares)
        likely = wins @ log_expit(logits) + (votes - wins) @ log_expit(-logits) + size / 2
        return -float(likely), -(slope @ apart)

    from scipy.optimize import minimize

    found = minimize(unlikely, np.zeros(count - 1), jac=True, method="BFGS").x
    strengths, covariance = np.zeros(count), np.zeros((count, count))
    strengths[1:], covariance[1:, 1:] = found, np.linalg.inv(information(found))
    return strengths, covariance


@cache
def _factor(count: int) -> float:
    """Return how many standard errors hold for all pairs of so many at once (Tukey and Kramer)."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(CONFIDENCE, count, math.inf)) / math.sqrt(2)


def _joined(names: Sequence[str], won: Won) -> list[str]:
    """Return the largest part of the names that chains of votes join; of equal ones the first."""
    if not any(won.values()):
        return []
    from scipy.sparse.csgraph import connected_components

    _, parts = connected_components(_table(names, won), directed=False)
    sizes = np.bincount(parts)
    return [name for name, part in zip(names, parts, strict=True) if part == np.argmax(sizes)]


def _table(names: Sequence[str], won: Won) -> NDArray[np.float64]:
    return np.array([[float(won.get((a, b), 0)) for b in names] for a in names])
