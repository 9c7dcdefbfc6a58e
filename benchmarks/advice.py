"""How often advice is given, and how often wrongly, in trainings whose truth is known."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, product
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipwatch.judging.advice import plateau, regressed
from clipwatch.statistics.means import Means
from clipwatch.statistics.picked import against_winner, winners_mean
from clipwatch.statistics.scale import COSINE

WORTH: Final = 0.005
EVERY: Final = 100
"""Steps between two checkpoints: 10 of them are the 1,000 steps of a plateau."""

SPREADS: Final = (0.025, 0.05)
"""Between these lies the standard deviation of a training's scores from prompt to prompt."""

PROMPTS: Final = (48, 144, 512, 1632)
ALIKE: Final = (0.6, 0.8, 0.95)
STRETCH: Final = 1000


HEAD: Final = (
    *("prompts", "alike", "training of 100 checkpoints", "false regressed", "fall told within two"),
    *("fall told", "plateau", "at", "false plateau", "best's mean covered"),
    "difference to the best before covered",
)


@dataclass(frozen=True, slots=True)
class Course:
    """A kind of training.

    Attributes:
        name: For a person.
        checkpoints: How many it has.
        rise: From its first to its last checkpoint, along a straight line.
        wiggle: Standard deviation of each checkpoint's true mean around that.
        drop: By how much it falls for good, at a checkpoint from the 6th to the 80th.
    """

    name: str
    checkpoints: int = 100
    rise: float = 0.0
    wiggle: float = 0.0
    drop: float = 0.0

    @property
    def rising(self) -> bool:
        """Whether it gains `WORTH` or more over the steps of a plateau."""
        gain = self.rise / (self.checkpoints - 1) * STRETCH / EVERY
        return gain > WORTH * 0.99

    def truth(self, generator: np.random.Generator) -> tuple[NDArray[np.float64], int]:
        """Draw true means, and where it fell; that is beyond the end where it did not."""
        means = np.linspace(0.25, 0.25 + self.rise, self.checkpoints)
        means += self.wiggle * generator.normal(size=self.checkpoints)
        at = int(generator.integers(5, 80)) if self.drop else self.checkpoints
        means[at:] -= self.drop
        return means, at


COURSES: Final = (
    Course("flat"),
    Course("wiggles, sd .002", wiggle=0.002),
    Course("wiggles, sd .003", wiggle=0.003),
    Course("rises by .01 over 20", 20, rise=0.01),
    Course("rises by .02 over 20", 20, rise=0.02),
    Course("rises by .01 over 100", rise=0.01),
    Course("rises by .02 over 100", rise=0.02),
    Course("rises by .05 over 100", rise=0.05),
    Course("the same, wiggles, sd .003", rise=0.05, wiggle=0.003),
    Course("falls by .01", drop=0.01),
    Course("falls by .03", drop=0.03),
    Course("the same, wiggles, sd .003", drop=0.03, wiggle=0.003),
)


@dataclass(slots=True)
class Tally:
    """What came of many trainings of a kind; places count checkpoints from 1."""

    trainings: int = 0
    alarms: int = 0
    in_time: int = 0
    told: int = 0
    plateaus: list[int] = field(default_factory=list)
    late_plateaus: int = 0
    winner: int = 0
    before: int = 0


def scores(
    generator: np.random.Generator,
    truth: NDArray[np.float64],
    prompts: int,
    alike: float,
    *,
    hardest: bool,
) -> NDArray[np.float64]:
    """Draw a table of scores, a row for each prompt.

    What scores of neighbouring checkpoints have in common, a share `alike` of their variance, stays
    for the whole training in one half of all trainings, and fades from checkpoint to checkpoint in
    the other (an autoregression of first order). The hardest trainings scatter most, and fade.
    """
    size = prompts, len(truth)
    table = generator.normal(size=size)
    if not hardest and generator.random() < 1 / 2:
        table *= math.sqrt(1 - alike)
        table += math.sqrt(alike) * generator.normal(size=(prompts, 1))
    else:
        for place in range(1, len(truth)):
            table[:, place] *= math.sqrt(1 - alike**2)
            table[:, place] += alike * table[:, place - 1]
    return truth + (SPREADS[1] if hardest else generator.uniform(*SPREADS)) * table


def watch_falls(tally: Tally, means: Means, fallen: int) -> None:
    """Ask clipwatch at each checkpoint of a training whether it fell, and count what it says."""
    falls = list(_falls(_steps(means), means))
    tally.alarms += any(place <= fallen for place in falls)
    later = [place for place in falls if place > fallen]
    tally.told += bool(later)
    tally.in_time += bool(later) and later[0] <= fallen + 2


def watch_plateaus(tally: Tally, means: Means, fallen: int) -> None:
    """Ask clipwatch at each checkpoint whether the training rises no more, and count that."""
    steps = _steps(means)
    ends = range(1, len(means) + 1)
    calm = next((n for n in ends if plateau(steps[:n], means[:n], WORTH, STRETCH)), 0)
    if calm:
        tally.plateaus.append(calm)
        tally.late_plateaus += calm > fallen


def cover(tally: Tally, means: Means, true: NDArray[np.float64]) -> None:
    """Count whether the intervals of what was picked at the end of a training hold the truth."""
    own, against = winners_mean(means, COSINE), against_winner(means, COSINE)
    tally.winner += own.low <= true[own.winner] <= own.high
    tally.before += against.low <= true[-1] - true[against.winner] <= against.high


def _steps(means: Means) -> list[int]:
    return [EVERY * place for place in range(1, len(means) + 1)]


def _falls(steps: list[int], means: Means) -> Iterator[int]:
    told = 0
    for count in range(1, len(means) + 1):
        if regressed(steps[:count], means[:count], WORTH, told):
            told = steps[count - 1]
            yield count


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="*", default=PROMPTS)
    parser.add_argument("--alike", type=float, nargs="*", default=ALIKE)
    parser.add_argument("--hardest", action="store_true", help="scattering by 0.05, and fading")
    parser.add_argument("--trainings", type=int, default=100, help="of each kind (100)")
    parser.add_argument("--only", choices=("falls", "plateaus", "coverage"), help="its columns")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |")
    print("|---" * len(HEAD) + "|")
    for prompts, alike, course in product(options.prompts, options.alike, COURSES):
        seed = [options.seed, prompts, round(100 * alike), *f"{course}".encode()]
        generator = np.random.default_rng(seed)
        tally = Tally()
        for _ in range(options.trainings):
            true, fallen = course.truth(generator)
            table = scores(generator, true, prompts, alike, hardest=options.hardest)
            means = Means.of(table)
            tally.trainings += 1
            if options.only in {None, "falls"}:
                watch_falls(tally, means, fallen)
            if options.only in {None, "plateaus"}:
                watch_plateaus(tally, means, fallen)
            if options.only in {None, "coverage"}:
                cover(tally, means, true)
        print(
            f"| {prompts} | {alike:g} | {course.name} | {_told(course, tally, options.only)} |",
            flush=True,
        )


def _told(course: Course, tally: Tally, only: str | None) -> str:
    """Return the cells of a row; empty ones for what was not asked."""
    count = tally.trainings
    wrong = len(tally.plateaus) if course.rising else tally.late_plateaus
    falls = (
        f"{tally.alarms / count:.2f}",
        f"{tally.in_time / count:.2f}" if course.drop else "",
        f"{tally.told / count:.2f}" if course.drop else "",
    )
    plateaus = (
        f"{len(tally.plateaus) / count:.2f}",
        f"{median(tally.plateaus):g}" if tally.plateaus else "",
        f"{wrong / count:.2f}" if course.rising or course.drop else "",
    )
    coverage = f"{tally.winner / count:.2f}", f"{tally.before / count:.2f}"
    groups = {"falls": falls, "plateaus": plateaus, "coverage": coverage}
    shown = (cells if only in {None, name} else [""] * len(cells) for name, cells in groups.items())
    return " | ".join(chain.from_iterable(shown))


if __name__ == "__main__":
    main()
