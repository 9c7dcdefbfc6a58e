"""How often the statistics are right, on scores whose truth is known."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from clipwatch.statistics.best import best_of
from clipwatch.statistics.candidates import candidates
from clipwatch.statistics.intervals import describe
from clipwatch.statistics.means import Means
from clipwatch.statistics.paired import compare
from clipwatch.statistics.picked import against_winner, winners_mean
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores, shared_means
from clipwatch.statistics.sequential import MINIMUM, Running, half_width

MEAN: Final = 0.3
EFFECT: Final = 0.02
NOISE: Final = 0.015
"""Standard deviations of prompts and of the images of one prompt; 0.025 together, as real ones."""

SHIFT: Final = 0.004
CHECKPOINTS: Final = 20
QUICK: Final = (16, 128, 5_000)
LONGEST: Final = 5_000
SLACK: Final = 3.0
"""Standard errors of a share that a figure may be missed by."""

SHAPES: Final[dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]]] = {
    "normal": lambda generator, size: generator.normal(size=size),
    "skewed": lambda generator, size: (4 - generator.gamma(4, size=size)) / 2,
    "heavy tails": lambda generator, size: generator.standard_t(4, size) / math.sqrt(2),
    "exponential": lambda generator, size: generator.exponential(size=size) - 1,
}
"""Laws of mean 0 and variance 1; "skewed" has skewness -1."""

EXTREME: Final = "exponential"


@dataclass(frozen=True, slots=True)
class World:
    """Scores of a kind.

    Attributes:
        shape: Of prompts and of noise, a key of SHAPES.
        prompts: How many an evaluation has.
        images: Of each prompt.
    """

    shape: str
    prompts: int
    images: int

    def evaluate(
        self, generator: np.random.Generator, shifts: tuple[float, ...], own: float = 0.0
    ) -> list[Scores]:
        """Score checkpoints on the same prompts.

        Args:
            generator: Of the numbers.
            shifts: True mean of each checkpoint less MEAN.
            own: Standard deviation of what a checkpoint adds to a prompt by itself.
        """
        draw = partial(SHAPES[self.shape], generator)
        count = len(shifts)
        means = MEAN + EFFECT * draw((1, self.prompts, 1)) + np.array(shifts)[:, None, None]
        means = means + own * draw((count, self.prompts, 1))
        scores = means + NOISE * draw((count, self.prompts, self.images))
        return [
            {f"{index:05}": row for index, row in enumerate(table)} for table in scores.tolist()
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """A question, asked of one world many times.

    Attributes:
        question: What is counted.
        least, most: Where its share should be.
        ask: Whether it happened in one run.
        shapes, prompts, images: The worlds asked, all combinations.
        cost: Divides the number of runs.
    """

    question: str
    least: float
    most: float
    ask: Callable[[World, np.random.Generator], bool]
    shapes: tuple[str, ...] = ("normal", "skewed", "heavy tails")
    prompts: tuple[int, ...] = (16, 32, 128, 1000)
    images: tuple[int, ...] = (1, 4)
    cost: int = 1

    def worlds(self, quick: bool) -> Iterator[World]:
        """Yield the worlds; the quick ones have one image and few prompts, or a sequence's many."""
        for shape, prompts, images in product(self.shapes, self.prompts, self.images):
            if not quick or (images == 1 and prompts in QUICK):
                yield World(shape, prompts, images)


def covers(world: World, generator: np.random.Generator) -> bool:
    """Say whether the interval of a mean holds the true one."""
    found = describe(world.evaluate(generator, (0.0,))[0])
    return found.low is not None and found.high is not None and found.low <= MEAN <= found.high


def covers_difference(world: World, generator: np.random.Generator) -> bool:
    """Say whether the interval of a difference holds the true one; the two differ by prompt."""
    a, b = world.evaluate(generator, (0.0, SHIFT), own=NOISE / 2)
    found = compare("a", a, "b", b, COSINE)
    return found.low <= SHIFT <= found.high


def alarms(world: World, generator: np.random.Generator) -> bool:
    """Say whether two equal checkpoints are called different."""
    a, b = world.evaluate(generator, (0.0, 0.0))
    return compare("a", a, "b", b, COSINE).verdict != "inconclusive"


def sees(world: World, generator: np.random.Generator) -> bool:
    """Say whether a difference as large as `detectable` promises (on average) is seen."""
    sd = NOISE * math.sqrt(2 / world.images)
    degrees = world.prompts - 1
    factor = stdtrit(degrees, 0.975) + stdtrit(degrees, 0.8)
    a, b = world.evaluate(generator, (0.0, float(factor) * sd / math.sqrt(world.prompts)))
    return compare("a", a, "b", b, COSINE).verdict == "better"


def tells_apart(world: World, generator: np.random.Generator) -> bool:
    """Say whether any of many equal checkpoints is told from the best."""
    tables = world.evaluate(generator, (0.0,) * CHECKPOINTS)
    found = best_of({str(index): table for index, table in enumerate(tables)}, COSINE)
    return len(found.tied) < CHECKPOINTS - 1


def keeps_best(world: World, generator: np.random.Generator, rise: float = 0.0) -> bool:
    """Say whether the best of 20 (of equal ones: the last) is among those that may be it."""
    shifts = np.linspace(0, rise, CHECKPOINTS)
    tables = world.evaluate(generator, tuple(shifts), own=NOISE / 2)
    return CHECKPOINTS - 1 in candidates(np.array(shared_means(tables)), COSINE)


def covers_all(world: World, generator: np.random.Generator) -> bool:
    """Say whether the intervals of all differences to the best hold the true ones at once."""
    shifts = tuple(SHIFT * index / CHECKPOINTS for index in range(CHECKPOINTS))
    tables = world.evaluate(generator, shifts, own=NOISE / 2)
    found = best_of({str(index): table for index, table in enumerate(tables)}, COSINE)
    top = shifts[int(found.best)]
    return all(
        low <= shifts[int(name)] - top <= high for name, (_, low, high) in found.differences.items()
    )


def covers_best(world: World, generator: np.random.Generator, rise: float = 0.0) -> bool:
    """Say whether the interval of the highest of 20 means holds its true one."""
    shifts = np.linspace(0, rise, CHECKPOINTS)
    found = winners_mean(
        Means.shared(world.evaluate(generator, tuple(shifts), own=NOISE / 2)), COSINE
    )
    return bool(found.low <= MEAN + shifts[found.winner] <= found.high)


def covers_before(world: World, generator: np.random.Generator, rise: float = 0.0) -> bool:
    """Say whether the interval of the difference to the highest before holds the true one."""
    shifts = np.linspace(0, rise, CHECKPOINTS)
    found = against_winner(
        Means.shared(world.evaluate(generator, tuple(shifts), own=NOISE / 2)), COSINE
    )
    return bool(found.low <= shifts[-1] - shifts[found.winner] <= found.high)


def holds_throughout(world: World, generator: np.random.Generator, start: int = MINIMUM) -> bool:
    """Say whether the confidence sequence holds the true mean after each prompt from `start` on."""
    running = Running()
    for value in _one_by_one(world, generator):
        running = running.add(value)
        if running.n >= start and abs(running.total / running.n - MEAN) > half_width(running):
            return False
    return True


def student_holds_throughout(world: World, generator: np.random.Generator) -> bool:
    """Say the same of Student's interval, which is made for one look."""
    values = np.array(_one_by_one(world, generator))
    counts = np.arange(1, len(values) + 1)
    means = np.cumsum(values) / counts
    squares = np.cumsum(values * values) - counts * means * means
    late = counts >= MINIMUM
    count, mean, square = counts[late], means[late], squares[late]
    half = stdtrit(count - 1, 0.975) * np.sqrt(square / (count - 1) / count)
    return bool(np.all(np.abs(mean - MEAN) <= half))


def _one_by_one(world: World, generator: np.random.Generator) -> list[float]:
    (scores,) = world.evaluate(generator, (0.0,))
    return [math.fsum(row) / len(row) for row in scores.values()]


_long = partial(Part, prompts=(LONGEST,), images=(1,), cost=2)
_picked = partial(Part, least=0.93, most=0.97, prompts=(32, 128, 1000), images=(1,), cost=8)
_extreme = partial(Part, shapes=(EXTREME,), images=(1,))
PARTS: Final = {
    "interval": Part("the interval holds the mean", 0.93, 0.97, covers),
    "difference": Part("the interval holds the difference", 0.93, 0.97, covers_difference, cost=4),
    "extreme": _extreme("the interval holds the mean", 0, 1, covers),
    "extreme-difference": _extreme("the interval holds the difference", 0, 1, covers_difference),
    "identical": Part("two equal ones are called different", 0, 0.05, alarms, cost=4),
    "detectable": Part("a detectable difference is seen", 0.75, 0.85, sees, cost=4, images=(1,)),
    "best": Part(
        "any of 20 equal ones is told from the best", 0, 0.05, tells_apart, cost=4, images=(1,)
    ),
    "differences": Part(
        "the intervals hold all of 19 differences", 0.95, 1, covers_all, cost=8, images=(1,)
    ),
    "candidates": Part(
        "the last of 20 equal ones may be the best", 0.95, 1, keeps_best, cost=8, images=(1,)
    ),
    "candidates-rising": Part(
        "the same, rising by 0.02",
        0.95,
        1,
        partial(keeps_best, rise=5 * SHIFT),
        cost=8,
        images=(1,),
    ),
    "picked": _picked("the interval of the best of 20 equal means holds it", ask=covers_best),
    "picked-rising": _picked("the same, rising by 0.02", ask=partial(covers_best, rise=5 * SHIFT)),
    "before": _picked("the interval of the difference to the best before does", ask=covers_before),
    "before-rising": _picked(
        "the same, rising by 0.02", ask=partial(covers_before, rise=5 * SHIFT)
    ),
    "sequence": _long("the sequence holds after each prompt", 0.95, 1, holds_throughout),
    "from-32": _long("the same from prompt 32 on", 0, 1, partial(holds_throughout, start=32)),
    "from-16": _long("the same from prompt 16 on", 0, 1, partial(holds_throughout, start=16)),
    "student": _long("Student's does", 0, 0.9, student_holds_throughout),
}
"""What is asked, by name. Bounds of 0..1 are for comparison only."""


def main() -> None:
    """Ask, print a table, and end with an error if a figure is missed by more than chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--quick", action="store_true", help="few worlds, few runs")
    parser.add_argument("--runs", type=int, help="of each world (4000, quick 400); slow parts less")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    runs = options.runs or (400 if options.quick else 4000)
    print("| part | of | prompts | images | runs | share | wanted |  |")
    print("|---|---|---|---|---|---|---|---|")
    missed = False
    for name in options.parts or PARTS:
        part = PARTS[name]
        for world in part.worlds(options.quick):
            count = max(1, runs // part.cost)
            generator = np.random.default_rng([options.seed, *f"{name} {world}".encode()])
            hits = sum(part.ask(world, generator) for _ in range(count))
            verdict = _verdict(part, hits, count)
            missed |= verdict == "MISSED"
            print(
                f"| {part.question} | {world.shape} | {world.prompts} | {world.images} | {count}"
                f" | {hits / count:.4f} | {part.least:g}..{part.most:g} | {verdict} |",
                flush=True,
            )
    sys.exit(1 if missed else 0)


def _verdict(part: Part, hits: int, runs: int) -> str:
    """Compare a share with its bounds, by the standard error that it has at the bound."""
    share = hits / runs
    low, high = (SLACK * math.sqrt(bound * (1 - bound) / runs) for bound in (part.least, part.most))
    return "met" if part.least - low <= share <= part.most + high else "MISSED"


if __name__ == "__main__":
    main()
