"""What a search for a better blend came to, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipwatch.domain.blends import Recipe
from clipwatch.domain.state import Evaluation, Run
from clipwatch.statistics import Comparison
from clipwatch.statistics.scale import Scale

LEVEL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Tested:
    """How a blend did on the prompts that were not searched on.

    Attributes:
        found: The blend less the best checkpoint.
        looks: How many blends of the run were tested on these prompts, this one among them.
        means: The best's and the blend's.
        written: The blend's file, or its folder where it is several.
    """

    found: Comparison
    looks: int
    means: tuple[float, float]
    written: Path

    @property
    def p(self) -> float:
        """The test's p by the square of the looks.

        "Better" is false in 2.5 % of first looks at most, in a quarter of that at the second, and
        so on: in 2.5 % by pi²/6, 4.2 %, however many blends are tested.
        """
        return min(1.0, self.found.p * self.looks**2)

    @property
    def better(self) -> bool:
        """Whether it is surely better, though others were tested there before."""
        return self.found.verdict == "better" and self.p <= LEVEL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search came to.

    Attributes:
        run: That was searched.
        best: The best checkpoint, as `clipwatch best` names it.
        blend: What the search ended with.
        searched: On how many prompts that was scored in the search.
        means: The best's and the blend's on these.
        images: That all this takes, those of an earlier call among them.
        tested: None where no blend was above the best on the prompts that were searched on.
        scale: Of the scores.
    """

    run: Run
    best: Evaluation
    blend: Recipe
    searched: int
    means: tuple[float, float]
    images: int
    tested: Tested | None
    scale: Scale
