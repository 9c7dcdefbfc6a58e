"""How many prompts tell which of 20 checkpoints is the best: all pairs, or compared with it alone?

    python benchmarks/ranking.py [--quick]

Scores are drawn whose truth is known: the best is ahead of the next one, and the rest lie evenly
below that, over 0.02. For more and more prompts it is counted in how many runs nothing is left that
cannot be told from the best (`best_of(...).tied`: each pair is compared), and in how many nothing
else may be the best (`candidates`). Needed are so many prompts as have that in 80 % of the runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.best import best_of
from clipwatch.statistics.scale import COSINE

CHECKPOINTS: Final = 20
BEST: Final = 13
BELOW: Final = 0.02
SPREAD: Final = 0.035
"""Standard deviation of a checkpoint's scores over prompts, about as real ones have it."""

WORLDS: Final = ((0.01, 0.6), (0.01, 0.8), (0.01, 0.95), (0.02, 0.8), (0.005, 0.95))
"""How far the best is ahead, and the correlation of two checkpoints' scores over prompts."""

POWER: Final = 0.8
STEP: Final = 1.25


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, draw, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one row, few runs")
    parser.add_argument("--runs", type=int, help="for each number of prompts (100, quick 10)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    runs = chosen.runs or (10 if chosen.quick else 100)
    print("| ahead by | alike | prompts, all pairs | with the best alone | share | best lost |")
    print("|---|---|---|---|---|---|")
    for number, (lead, alike) in enumerate(WORLDS[3:4] if chosen.quick else WORLDS):
        generator = np.random.default_rng([chosen.seed, number])
        pairs, best, lost = needed(lead, alike, runs, generator)
        told = f"{pairs:.0f} | {best:.0f} | {best / pairs:.2f} | {lost:.3f}"
        print(f"| {lead:g} | {alike:g} | {told} |", flush=True)


def needed(
    lead: float, alike: float, runs: int, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Return the prompts needed by either way, and in which share of all runs the best was lost."""
    fewest = 3 * (SPREAD / lead) ** 2 * 2 * (1 - alike)  # the best is three standard errors ahead
    counts, shares, lost = [0.0], [(0.0, 0.0)], []
    while min(shares[-1]) < POWER:
        prompts = math.ceil(max(fewest, 6) * STEP ** (len(counts) - 1))
        told = [_told(scores(prompts, lead, alike, generator)) for _ in range(runs)]
        counts.append(prompts)
        shares.append((sum(it[0] for it in told) / runs, sum(it[1] for it in told) / runs))
        lost += [it[2] for it in told]
    pairs, best = (_reached(counts, [it[way] for it in shares]) for way in (0, 1))
    return pairs, best, sum(lost) / len(lost)


def scores(
    prompts: int, lead: float, alike: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return scores, a row for each prompt and a column for each checkpoint."""
    truth = np.insert(np.linspace(-lead - BELOW, -lead, CHECKPOINTS - 1), BEST, 0.0)
    common = generator.normal(size=(prompts, 1)) * math.sqrt(alike)
    own = generator.normal(size=(prompts, CHECKPOINTS)) * math.sqrt(1 - alike)
    found: NDArray[np.float64] = 0.3 + truth + SPREAD * (common + own)
    return found


def _told(table: NDArray[np.float64]) -> tuple[bool, bool, bool]:
    """Say whether the true best is told from all others, by either way, and whether it is lost."""
    tables = {
        str(column): {f"{row:05}": [score] for row, score in enumerate(its)}
        for column, its in enumerate(table.T.tolist())
    }
    found, best = best_of(tables, COSINE), str(BEST)
    alone = found.best == best and not found.tied
    return alone, found.candidates == (best,), best not in found.candidates


def _reached(counts: Sequence[float], shares: Sequence[float]) -> float:
    """Return where a share reaches POWER, on a straight line between two numbers of prompts."""
    place = next(at for at, share in enumerate(shares) if share >= POWER)
    low, high = shares[place - 1 : place + 1]
    return counts[place - 1] + (POWER - low) / (high - low) * (counts[place] - counts[place - 1])


if __name__ == "__main__":
    main()
