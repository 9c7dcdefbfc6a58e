"""From single scores to the numbers that are published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Summary:
    """Cosines of one evaluation, each in -1..1.

    Attributes:
        mean, min, max: Over all images.
        std: The population's, over all images (as SimpleTuner's).
        n: Images.
        prompts: Prompts; 0 where nobody counted them (logs of earlier versions).
        se: Standard error of the mean, clustered by prompt; None for fewer than two prompts.
        low, high: 95 % interval of the mean; None like `se`.
    """

    mean: float
    min: float
    max: float
    std: float
    n: int
    prompts: int = 0
    se: float | None = None
    low: float | None = None
    high: float | None = None

    def turned(self) -> Summary:
        """Return the same of numbers with the other sign."""
        return replace(
            self,
            mean=-self.mean,
            min=-self.max,
            max=-self.min,
            low=None if self.high is None else -self.high,
            high=None if self.low is None else -self.low,
        )


def summarize(scores: Sequence[float]) -> Summary:
    """Summarise the cosines of all images.

    Raises:
        ValueError: There are none, or one is not finite.
    """
    if not scores:
        raise ValueError("no scores")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError("a score is not finite")
    mean = math.fsum(scores) / len(scores)
    variance = math.fsum((score - mean) ** 2 for score in scores) / len(scores)
    return Summary(mean, min(scores), max(scores), math.sqrt(variance), len(scores))
