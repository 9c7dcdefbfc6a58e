"""How many images `clipwatch rank` saves, and how often it loses the best of 20 checkpoints by it.

    python benchmarks/racing.py [--quick] [--prompts N] [--runs N]

Scores are drawn whose truth is known, in the worlds of ranking.py: the best is ahead of the next
one, the rest lie evenly below that. In a last world all are the same. Two rules are tried, both
with a bound of 2.5 % on losing the best:

- rounds: what `rank` does (`statistics.racing`). All have 32 prompts, who is left has 48, ...
- one by one: each in its turn, in an order by lot, beside the best one so far, until an interval
  that may be looked at after every prompt says that it is below; else to the end.

Counted are the images made, how often the best was not lost (each of equal ones, where all are the
same), how often the highest mean in the end is the best one's, by the rule and by all images; and
for the rounds how often what is said of those that are left is so (`best_of`): the best is one that
may be it, the interval of the highest mean holds, all intervals of differences hold at once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.anytime import LEAST, critical
from clipwatch.statistics.best import best_of
from clipwatch.statistics.racing import SPENT, race
from clipwatch.statistics.scale import COSINE
from ranking import BELOW, BEST, CHECKPOINTS, SPREAD, WORLDS, scores

COUNTS: Final = (144, 1_632)
SAME: Final = (0.0, 0.8)
"""All checkpoints are as good as each other; and how alike they are."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a rule came to: how many prompts were made of each, and so who is left."""

    made: NDArray[np.int64]
    left: NDArray[np.intp]


def in_rounds(table: Array) -> Ended:
    """Race as `clipwatch rank` does."""
    prompts, order = len(table), [str(row) for row in range(len(table))]
    means = {
        str(column): dict(zip(order, its, strict=True))
        for column, its in enumerate(table.T.tolist())
    }
    found = race(means, order, COSINE)
    made = np.full(CHECKPOINTS, prompts)
    for name, outdone in found.outdone.items():
        made[int(name)] = outdone.prompts
    return Ended(made, np.array([int(it) for it in found.left]))


def one_by_one(table: Array, generator: np.random.Generator) -> Ended:
    """Compare each with the best so far, until it is known to be below.

    The best is lost only if the interval of its difference to one of the others fails, so each may
    on one side in SPENT / (CHECKPOINTS - 1).
    """
    prompts = len(table)
    counts = np.arange(1, prompts + 1)
    alpha = 2 * SPENT / (CHECKPOINTS - 1)
    factors = np.array([critical(n, alpha) for n in range(1, prompts + 1)])
    order = [int(it) for it in generator.permutation(CHECKPOINTS)]
    made, left = np.full(CHECKPOINTS, prompts), [order[0]]
    for own in order[1:]:
        best = max(left, key=lambda it: float(table[:, it].mean()))
        differences = table[:, own] - table[:, best]
        means = np.cumsum(differences) / counts
        squares = np.cumsum(differences * differences) - counts * means * means
        with np.errstate(invalid="ignore", divide="ignore"):
            half = factors * np.sqrt(np.maximum(squares, 0.0) / (counts - 1) / counts)
        below = means + half < 0
        below[: LEAST - 1] = False
        if below.any():
            made[own] = int(below.argmax()) + 1
        else:
            left.append(own)
    return Ended(made, np.array(sorted(left)))


def said(table: Array, truth: Array, ended: Ended) -> tuple[bool, bool, bool]:
    """Say whether the best may be it, and the intervals of mean and of all differences hold."""
    tables = {
        str(column): {f"{row:05}": [score] for row, score in enumerate(table[:, column].tolist())}
        for column in ended.left.tolist()
    }
    gone = len(ended.left) < CHECKPOINTS
    found = best_of(tables, COSINE, spent=SPENT if gone else 0.0)
    best, (_, low, high) = int(found.best), found.mean
    all_hold = all(
        its[1] <= truth[int(name)] - truth[best] <= its[2]
        for name, its in found.differences.items()
    )
    may_be = {int(it) for it in found.candidates}
    equal = np.flatnonzero(truth == truth.max()).tolist()
    return bool(may_be.intersection(equal)), low <= truth[best] <= high, all_hold


def of_world(
    prompts: int, lead: float, alike: float, runs: int, generator: np.random.Generator
) -> None:
    """Draw a world again and again, and print a row for each rule."""
    tables = [drawn(prompts, lead, alike, generator) for _ in range(runs)]
    truth = true_means(lead)
    best_ones = np.flatnonzero(truth == truth.max())
    full = [int(it.mean(axis=0).argmax()) in best_ones for it in tables]
    for rule in ("rounds", "one by one"):
        rounds = rule == "rounds"
        ends = [in_rounds(it) if rounds else one_by_one(it, generator) for it in tables]
        images = sum(float(it.made.mean()) / prompts for it in ends) / runs
        kept = [float(np.isin(best_ones, it.left).mean()) for it in ends]
        picked = [
            int(ended.left[int(table[:, ended.left].mean(axis=0).argmax())]) in best_ones
            for table, ended in zip(tables, ends, strict=True)
        ]
        cells = [prompts, lead or "all the same", alike, rule, f"{images:.2f}"]
        cells += [f"{sum(it) / runs:.3f}" for it in (kept, picked, full)]
        if rounds:
            held = [said(*it) for it in zip(tables, [truth] * runs, ends, strict=True)]
            cells += [f"{sum(it) / runs:.3f}" for it in zip(*held, strict=True)]
        else:
            cells += [""] * 3
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def true_means(lead: float) -> Array:
    """Return what is true of each checkpoint of a world, as ranking.py draws it."""
    below = np.linspace(-lead - BELOW, -lead, CHECKPOINTS - 1)
    return 0.3 + (np.insert(below, BEST, 0.0) if lead else np.zeros(CHECKPOINTS))


def drawn(prompts: int, lead: float, alike: float, generator: np.random.Generator) -> Array:
    """Return scores, a row for each prompt; without a lead all checkpoints are the same."""
    if lead:
        return scores(prompts, lead, alike, generator)
    common = generator.normal(size=(prompts, 1)) * math.sqrt(alike)
    own = generator.normal(size=(prompts, CHECKPOINTS)) * math.sqrt(1 - alike)
    found: Array = 0.3 + SPREAD * (common + own)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, draw, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one world, few runs")
    parser.add_argument("--runs", type=int, help="of each world (200, quick 10)")
    parser.add_argument("--prompts", type=int, help=f"{' and '.join(map(str, COUNTS))}")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    runs = chosen.runs or (10 if chosen.quick else 200)
    counts = (chosen.prompts,) if chosen.prompts else COUNTS[:1] if chosen.quick else COUNTS
    worlds = WORLDS[3:4] if chosen.quick else (*WORLDS, SAME)
    print(f"{CHECKPOINTS} checkpoints, spread {SPREAD:g}, {runs} runs each\n")
    # fmt: off
    heads = ("prompts", "ahead by", "alike", "rule", "images", "best kept", "best has the highest",
             "with all images", "may be the best: holds", "mean: holds", "differences: hold")
    # fmt: on
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for number, (prompts, (lead, alike)) in enumerate(product(counts, worlds)):
        generator = np.random.default_rng([chosen.seed, number, prompts])
        of_world(prompts, lead, alike, runs, generator)


if __name__ == "__main__":
    main()
