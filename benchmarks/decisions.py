"""How few images decide, how often wrongly, and how well a part of them tells the whole mean."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from statistics import fmean, median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.statistics.anytime import LEAST, Difference, critical
from clipwatch.statistics.intervals import describe
from clipwatch.statistics.part import fit
from clipwatch.statistics.sequential import (
    MINIMUM,
    Followed,
    Running,
    half_width,
    student_half_width,
)
from coverage import SHAPES

PROMPTS: Final = 1_632
LONG: Final = 5_000
MEAN: Final = 0.3
WORTH: Final = 0.005
SPREADS: Final = (0.025, 0.05)
"""Between these lies the standard deviation of a training's scores from prompt to prompt."""

ALIKE: Final = (0.6, 0.8, 0.95)
"""Correlation, from prompt to prompt, of two checkpoints; neighbours' is 0.8."""

BASES: Final = 0.5
"""That of the base with any of them."""

DIFFERENCES: Final = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04)
PRECISION: Final = 0.003
CHECKPOINTS: Final = 50

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """Scores of a kind.

    Attributes:
        shape: The law of all that is random, a key of SHAPES.
        spread: Standard deviation of a checkpoint's scores from prompt to prompt.
        alike: Correlation of two checkpoints.
    """

    shape: str
    spread: float
    alike: float

    def pair(self, generator: np.random.Generator, delta: float) -> tuple[Array, Array, Array]:
        """Draw the base, a reference, and a checkpoint whose true mean is `delta` above it."""
        draw = SHAPES[self.shape]
        common, near, *own = (draw(generator, (PROMPTS,)) for _ in range(5))
        shared = math.sqrt(BASES) * common
        both = shared + math.sqrt(self.alike - BASES) * near
        base, *others = (
            MEAN + self.spread * (part + math.sqrt(1 - share) * noise)
            for part, share, noise in zip(
                (shared, both, both), (BASES, self.alike, self.alike), own, strict=True
            )
        )
        return base - 0.05, others[0], others[1] + delta


@dataclass(frozen=True, slots=True)
class End:
    """After how many prompts what was known of a difference; None for nothing, after all."""

    prompts: int
    known: str | None


FACTORS: Final = np.array([critical(n) for n in range(1, PROMPTS + 1)])
COUNTS: Final = np.arange(1, PROMPTS + 1)


def seen(differences: Array) -> End:
    """Return what `Differing` says of differences, all at once."""
    means = np.cumsum(differences) / COUNTS
    squares = np.cumsum(differences * differences) - COUNTS * means * means
    with np.errstate(invalid="ignore", divide="ignore"):
        half = FACTORS * np.sqrt(np.maximum(squares, 0.0) / (COUNTS - 1) / COUNTS)
    known = (means - half > 0) | (means + half < 0) | (np.abs(means) + half < WORTH)
    known[: LEAST - 1] = False
    if not known.any():
        return End(PROMPTS, None)
    n = int(known.argmax())
    return End(
        n + 1, Difference(n + 1, means[n], means[n] - half[n], means[n] + half[n]).known(WORTH)
    )


def is_false(known: str | None, delta: float) -> bool:
    """Say whether it is a wrong word of a true difference."""
    wrong = {"above": delta <= 0, "below": delta >= 0, "within": abs(delta) >= WORTH}
    return known is not None and wrong[known]


def by_sequence(differences: Array) -> int:
    """Return after how many prompts the interval of `precision` would have known it."""
    running = Running()
    for value in differences.tolist():
        running = running.add(value)
        if running.n >= MINIMUM:
            delta, half = running.total / running.n, half_width(running)
            if abs(delta) > half or abs(delta) + half < WORTH:
                break
    return running.n


def stop(runs: int, generator: np.random.Generator) -> None:
    """How many prompts decide, and what they say."""
    head("shape", "spread", "alike", "difference", "runs", "prompts, median", "9 of 10 up to",
         "above", "within", "below", "open", "false", "by precision's interval")  # fmt: skip
    usual = product(["normal"], SPREADS, ALIKE)
    odd = product(["skewed", "heavy tails", "exponential"], SPREADS[:1], ALIKE[1:2])
    for shape, spread, alike in (*usual, *odd):
        world = World(shape, spread, alike)
        for delta in DIFFERENCES:
            counts, words, others = list[int](), Counter[str](), list[int]()
            false = 0
            for _ in range(runs):
                _, reference, values = world.pair(generator, delta)
                found = seen(values - reference)
                counts.append(found.prompts)
                words[found.known or "open"] += 1
                false += is_false(found.known, delta)
                if len(others) < runs // 20:
                    others.append(by_sequence(values - reference))
            told = [share(words[it], runs) for it in ("above", "within", "below", "open")]
            most = sorted(counts)[math.ceil(0.9 * runs) - 1]
            row(shape, spread, alike, delta, runs, f"{median(counts):.0f}", most, *told,
                share(false, runs), f"{median(others):.0f}")  # fmt: skip


def mean(runs: int, generator: np.random.Generator) -> None:
    """How well a part tells the mean of all, after so many prompts and after a decision."""
    head("shape", "spread", "alike", "ended", "runs", "prompts", "held, Student's",
         "held, published", "half, published", "times the images, told", "measured")  # fmt: skip
    ends: list[tuple[str, float, int]] = [("after 64", 0.0, 64), ("after 200", 0.0, 200)]
    ends += [(f"difference {it:g}", it, 0) for it in (0.0, 0.0025, 0.005, 0.01, 0.02)]
    usual = product(["normal"], SPREADS, ALIKE)
    odd = product(["skewed", "heavy tails"], SPREADS[:1], ALIKE[1:2])
    for shape, spread, alike in (*usual, *odd):
        world = World(shape, spread, alike)
        for name, delta, count in ends:
            tally = Tally()
            for _ in range(runs):
                base, reference, values = world.pair(generator, delta)
                found = count or seen(values - reference).prompts
                wholes = np.column_stack([reference, base])
                tally.add(values[:found], wholes, MEAN + delta, ended=not count)
            row(shape, spread, alike, name, runs, *tally.cells())


class Tally:
    """What came of estimates."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.held = [0, 0]
        self.halves: list[float] = []
        self.told: list[float] = []
        self.errors: tuple[list[float], list[float]] = ([], [])

    def add(self, part: Array, wholes: Array, truth: float, *, ended: bool) -> None:
        """Count one."""
        found, count = fit(part, wholes[: len(part)], wholes), len(part)
        error = abs(found.mean - truth)
        for place, stopped in enumerate((False, ended)):
            self.held[place] += error <= found.half(stopped=stopped)
        self.counts.append(count)
        self.halves.append(found.half(stopped=ended))
        self.told.append(found.spread / found.se**2 / count)
        self.errors[0].append((float(part.mean()) - truth) * math.sqrt(count))
        self.errors[1].append((found.mean - truth) * math.sqrt(count))

    def cells(self) -> Iterator[str]:
        """Yield what stands in the table."""
        runs = len(self.counts)
        yield f"{median(self.counts):.0f}"
        yield from (share(it, runs) for it in self.held)
        yield f"{fmean(self.halves):.4f}"
        yield f"{fmean(self.told):.1f}"
        plain, estimate = (fmean(it * it for it in error) for error in self.errors)
        yield f"{plain / estimate:.1f}"


def precision(runs: int, generator: np.random.Generator) -> None:
    """What `precision_interval: student` saves, and how often its interval holds."""
    head("shape", "spread", "precision", "interval", "runs", "prompts, median", "held")
    widths = {"sequence": half_width, "student": student_half_width}
    for shape, spread, (name, width) in product(
        ("normal", "skewed", "heavy tails"), SPREADS, widths.items()
    ):
        wanted = PRECISION * spread / SPREADS[0]
        counts, held = [], 0
        for _ in range(runs):
            values = MEAN + spread * SHAPES[shape](generator, (LONG,))
            followed = Followed(1, wanted, width)
            for count, value in enumerate(values.tolist(), 1):
                followed.add([(str(count), 0, value)])
                if followed.enough:
                    break
            found = describe({str(n): [value] for n, value in enumerate(values[:count].tolist())})
            counts.append(count)
            held += found.low is not None and found.low <= MEAN <= (found.high or 0.0)
        row(shape, spread, wanted, name, runs, f"{median(counts):.0f}", share(held, runs))


@dataclass(frozen=True, slots=True)
class Course:
    """A kind of training: its name, and the true means of its checkpoints less the first one's."""

    name: str
    means: Callable[[np.random.Generator], Array]


COURSES: Final = (
    Course("flat", lambda _: np.zeros(CHECKPOINTS)),
    Course("wiggles, sd .003", lambda it: 0.003 * it.normal(size=CHECKPOINTS)),
    Course("rises by .05", lambda _: np.linspace(0, 0.05, CHECKPOINTS)),
    Course("rises by .05 over the first 20", lambda _: np.minimum(np.arange(50) / 400, 0.05)),
    Course(
        "the same, then falls by .03",
        lambda _: np.minimum(np.arange(50) / 400, 0.05) - np.maximum(np.arange(50) - 25, 0) / 800,
    ),
)


def course(runs: int, generator: np.random.Generator) -> None:
    """What a whole training costs with `decide: difference` against the best, and what it finds."""
    head("training of 50 checkpoints", "spread", "runs", "images, of all", "whole", "false words",
         "best's mean below the true highest", "the same of all images", "mean held")  # fmt: skip
    for kind, spread in product(COURSES, SPREADS):
        made, whole, words, false, held, told = 0, 0, 0, 0, 0, 0
        lost: list[float] = []
        full: list[float] = []
        for _ in range(runs):
            truth = MEAN + kind.means(generator)
            table = _table(truth, spread, generator)
            kept, wholes = [0], [0]
            made += PROMPTS
            for n in range(1, CHECKPOINTS):
                best = max(kept, key=lambda it: float(table[it].mean()))
                found = seen(table[n] - table[best])
                words += found.known is not None
                false += is_false(found.known, truth[n] - truth[best])
                if found.known not in ("above", None):
                    made += found.prompts
                    part = fit(
                        table[n][: found.prompts], table[[best]].T[: found.prompts], table[[best]].T
                    )
                    held += abs(part.mean - truth[n]) <= part.half(stopped=True)
                    told += 1
                else:
                    made += PROMPTS
                    wholes.append(n)
                    if found.known:
                        kept.append(n)
            whole += len(wholes)
            best = max(wholes, key=lambda it: float(table[it].mean()))
            lost.append(truth.max() - truth[best])
            full.append(truth.max() - truth[int(table.mean(axis=1).argmax())])
        row(kind.name, spread, runs, share(made, runs * CHECKPOINTS * PROMPTS),
            f"{whole / runs:.1f}", share(false, words), f"{fmean(lost):.4f}", f"{fmean(full):.4f}",
            share(held, told))  # fmt: skip


def _table(truth: Array, spread: float, generator: np.random.Generator) -> Array:
    """Draw all checkpoints' scores: neighbours are alike by 0.78, distant ones by 0.6."""
    drift = generator.normal(size=PROMPTS)
    rows = []
    common = generator.normal(size=PROMPTS)
    for mean_ in truth:
        drift = 0.9 * drift + math.sqrt(1 - 0.81) * generator.normal(size=PROMPTS)
        own = generator.normal(size=PROMPTS)
        parts = math.sqrt(0.6) * common + math.sqrt(0.2) * drift + math.sqrt(0.2) * own
        rows.append(mean_ + spread * parts)
    return np.array(rows)


def share(count: int, of: int) -> str:
    """Write a share."""
    return f"{count / of:.3f}" if of else "-"


def head(*names: str) -> None:
    """Print a table's head."""
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")


def row(*cells: object) -> None:
    """Print a row."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


PARTS: Final[dict[str, tuple[Callable[[int, np.random.Generator], None], int]]] = {
    "stop": (stop, 1),
    "mean": (mean, 2),
    "precision": (precision, 4),
    "course": (course, 20),
}
"""What is asked, by name, and what divides the number of runs."""


def main() -> None:
    """Ask, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--runs", type=int, default=2000, help="of each row; slow parts less")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    print(f"{PROMPTS} prompts, worth {WORTH:g}, at least {LEAST} prompts")
    for name in options.parts or PARTS:
        ask, cost = PARTS[name]
        generator = np.random.default_rng([options.seed, *name.encode()])
        ask(max(2, options.runs // cost // (100 if options.quick else 1)), generator)


if __name__ == "__main__":
    main()
