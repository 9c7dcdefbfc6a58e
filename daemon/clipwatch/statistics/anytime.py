"""A difference that may be looked at after every prompt: known to be above, below, or no matter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from clipwatch.statistics.sequential import SPREAD, Running

LEVEL: Final = 0.05

TUNED: Final = 100
"""The number of prompts at which the interval is about at its narrowest for its kind."""

LEAST: Final = 32
"""Fewer prompts decide nothing: they may not be spread over all categories yet."""

_TAIL: Final = -2 * math.log(LEVEL)
_PRIOR: Final = (_TAIL + math.log1p(_TAIL)) / TUNED

Known = Literal["above", "below", "within"]


def critical(n: int, alpha: float = LEVEL) -> float:
    """Return how many standard errors a mean of n values may lie off the truth, whenever one stops.

    The confidence sequence of the t-test with a Gaussian mixture over the standardised effect (Lai
    1976, "On confidence sequences", Annals of Statistics 4; Wang and Ramdas 2025, "Anytime-valid
    t-tests and confidence sequences for Gaussian means with unknown variance", Sequential Analysis
    44): with G = 1 + n * g, where g is fixed beforehand by TUNED, and R = (G / alpha^2)^(1 / n),

        t^2 = (n - 1) * (R - 1) / (1 - R / G)

    For normal values it covers 1 - alpha for all n from 2 on at once, exactly, unlike the
    asymptotic one of `sequential`, which needs 64 prompts. Others it covers as Student's t does:
    about (benchmarks/decisions.py).

    Args:
        n: How many values.
        alpha: The chance that the truth is ever outside, 0..1.

    Returns:
        Infinite where n is too small for any interval.
    """
    if n < SPREAD:
        return math.inf
    growth = 1 + n * _PRIOR
    ratio = (growth / alpha**2) ** (1 / n)
    return math.inf if ratio >= growth else math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / growth))


def p_value(n: int, t: float) -> float:
    """Return how rarely so many standard errors, or more, are ever seen of no difference, 0..1.

    It agrees with `critical`: at most alpha exactly where |t| is at least critical(n, alpha).
    """
    if n < SPREAD:
        return 1.0
    growth, square = 1 + n * _PRIOR, t * t / (n - 1)
    if math.isinf(square):
        rise = math.log(growth)
    else:
        rise = math.log1p(square) - math.log1p(square / growth)
    return math.exp(min(0.0, (math.log(growth) - n * rise) / 2))


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference after so many prompts; low and high hold at every look, 95 %."""

    prompts: int
    delta: float
    low: float
    high: float

    @classmethod
    def of(cls, running: Running) -> Difference:
        """Take it from the prompts' differences, one at least."""
        delta = running.total / running.n
        factor = critical(running.n)
        if math.isinf(factor):
            return cls(running.n, delta, -math.inf, math.inf)
        half = factor * math.sqrt(running.squares / (running.n - 1) / running.n)
        return cls(running.n, delta, delta - half, delta + half)

    def known(self, worth: float, least: int = LEAST) -> Known | None:
        """Say what is known: "within" -/+ `worth`, else "above" or "below" 0; None for nothing."""
        if self.prompts < least:
            return None
        if -worth < self.low and self.high < worth:
            return "within"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else None


class Differing:
    """The difference of an evaluation to another one while its images come.

    A prompt counts once all of its images are there, and those before it, in the order in which the
    first of each came. What is known first stays: so the answer is that of all images read again.

    Args:
        images: Of each prompt.
        reference: Prompt → its mean there; prompts that it lacks say nothing.
        worth: A difference that matters, above 0.
        tie: Differences up to here are none.
        go_on: One that is above is made wholly: it is what later ones are compared with.

    Attributes:
        known: What is known, None for nothing yet.
        difference: As it was when that was known first, else of all prompts so far; None for none.
    """

    def __init__(
        self,
        images: int,
        reference: Mapping[str, float],
        worth: float,
        tie: float = 0.0,
        *,
        go_on: bool = False,
    ) -> None:
        self._images, self._reference = images, reference
        self._worth, self._tie, self._go_on = worth, tie, go_on
        self._running = Running()
        self._open: dict[str, dict[int, float]] = {}  # from the first prompt on that is not whole
        self.known: Known | None = None
        self.difference: Difference | None = None

    @property
    def enough(self) -> bool:
        """Whether no further image is needed."""
        return self.known is not None and not (self._go_on and self.known == "above")

    def add(self, scores: Iterable[tuple[str, int, float]]) -> None:
        """Take images into account: prompt id, image index and score of each; none comes twice."""
        if self.known:
            return
        for prompt, index, score in scores:
            self._open.setdefault(prompt, {})[index] = score
        for prompt in list(self._open):
            row = self._open[prompt]
            if self.known or len(row) < self._images:
                return
            del self._open[prompt]
            if prompt in self._reference:
                self._count(math.fsum(row.values()) / len(row) - self._reference[prompt])

    def _count(self, difference: float) -> None:
        self._running = self._running.add(0.0 if abs(difference) <= self._tie else difference)
        self.difference = Difference.of(self._running)
        self.known = self.difference.known(self._worth)
