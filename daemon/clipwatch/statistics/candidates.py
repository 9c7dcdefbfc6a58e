"""Which of many evaluations may be the best: each is compared with all others, and no two more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.flips import LEVEL, count, flips, rank
from clipwatch.statistics.paired import ROUNDING
from clipwatch.statistics.scale import Scale


def candidates(
    table: NDArray[np.float64], scale: Scale, seed: int = 0, level: float = LEVEL
) -> list[int]:
    """Return the places of those that may be the best; in 95 % of cases the best is among them.

    Left out is one of which it is shown that others are better. For that it is compared with all
    of them at once, on one side: the largest of their t, at which 5 % of the flips of signs arrive
    (see `flips`). The best itself is left out only if its own test errs, however many there are,
    so nothing has to be corrected for the other pairs: Hsu's comparisons with the best (1984,
    "Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals
    of Statistics 12), with the law of max-T in place of normal scores. Of several that are equally
    good some may be left out; whoever takes one of the others loses nothing.

    Args:
        table: Mean scores, a row for each prompt and a column for each evaluation.
        scale: Of the scores.
        seed: Of the flips.
        level: The chance that the best is left out, 0..1.

    Returns:
        All places where the prompts are too few for anything to be sure: with 5 % below six.
    """
    prompts, evaluations = table.shape
    if rank(prompts, level) == 0:
        return list(range(evaluations))
    products = table.T @ table
    squares = np.diag(products)
    spread = prompts * (squares[:, None] + squares - 2 * products)
    alike = spread <= (prompts * scale.tie) ** 2
    weights = np.where(alike, 0.0, 1 / np.sqrt(np.where(alike, 1.0, spread)))
    seen = _leads(table.sum(axis=0)[None], weights) - ROUNDING
    reached = (_leads(-table.sum(axis=0)[None], weights) >= seen).sum(axis=0)
    for turned in flips(prompts, seed, evaluations):
        signed = (1 - 2 * turned) @ table
        for both in (signed, -signed):  # a set of prompts and the rest of them: two, on one side
            reached += (_leads(both, weights) >= seen).sum(axis=0)
    share = (1 + reached) / (2 * (1 + count(prompts)))
    return [int(place) for place in np.flatnonzero(share > level)]


def _leads(sums: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the best of the others is above each, shape (flips, evaluations).

    In 0..1, which grows with t; see `best`.
    """
    found = [((sums - sums[:, [one]]) * weights[one]).max(axis=1) for one in range(sums.shape[1])]
    return np.stack(found, axis=1)
