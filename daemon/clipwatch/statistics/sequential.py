"""When enough prompts have been seen: an interval that may be looked at after each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

TUNED: Final = 500
"""The number of prompts at which the interval is at its narrowest for its kind."""

SPREAD: Final = 2
"""Fewer prompts have no standard deviation."""

MINIMUM: Final = 64
"""Fewer prompts are never enough: the standard deviation is not known yet."""


@dataclass(frozen=True, slots=True)
class Running:
    """The prompts seen so far.

    Attributes:
        n: How many.
        total: Sum of their values; a prompt's value is the mean score of its images.
        squares: Sum of the squared distances from their mean.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> Running:
        """Return this with one more prompt (Welford 1962: nothing large is subtracted)."""
        n, total = self.n + 1, self.total + value
        if self.n == 0:
            return Running(n, total, 0.0)
        step = (value - self.total / self.n) * (value - total / n)
        return Running(n, total, self.squares + step)


def half_width(running: Running, alpha: float = 0.05) -> float:
    """Return the half width of an interval of the mean that is valid whenever one stops.

    The two-sided asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
    2024 ("Time-uniform central limit theory and asymptotic confidence sequences", Annals of
    Statistics 52), the one from a Gaussian mixture: after n prompts with standard deviation s

        s * sqrt(2 * (n * r + 1) / (n^2 * r) * log(sqrt(n * r + 1) / alpha))

    where r = rho^2 = (log(1 - 2 log(alpha)) - 2 log(alpha)) / TUNED, about where the width at n =
    TUNED is least, is fixed beforehand. Unlike Student's interval it covers 1 - alpha for all n
    from MINIMUM on at once. It speaks of the mean over all prompts like these. That a library is
    finite and no prompt is drawn twice would only make it narrower; nothing is taken off for
    that, nor for a stratified order, so it errs to the safe side.

    Args:
        running: The prompts seen, in an order fixed before they were scored.
        alpha: The chance that the mean is ever outside, 0..1.

    Returns:
        Infinite for fewer than two prompts.
    """
    n = running.n
    if n < SPREAD:
        return math.inf
    tail = -2 * math.log(alpha)
    growth = n * (tail + math.log1p(tail)) / TUNED  # n * r
    variance = running.squares / (n - 1)
    bound = 2 * (growth + 1) / (n * growth) * math.log(math.sqrt(growth + 1) / alpha)
    return math.sqrt(variance * bound)


_Z: Final = NormalDist().inv_cdf(0.975)


def student_half_width(running: Running) -> float:
    """Return the half width of Student's 95 % interval of the mean, which is valid for one look.

    t(0.975; n - 1) by its expansion in 1 / (n - 1) (Abramowitz and Stegun 1964, 26.7.5), as scipy
    is not the daemon's: to 1e-6 from MINIMUM prompts on. Where the first narrow enough one ends
    the look, it covers 93 to 95 % (Chow and Robbins 1965; benchmarks/decisions.py).

    Returns:
        Infinite for fewer than two prompts.
    """
    degrees = running.n - 1
    if running.n < SPREAD:
        return math.inf
    z = _Z
    first = (z**3 + z) / (4 * degrees)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    quantile = z + first + second + third
    return quantile * math.sqrt(running.squares / degrees / running.n)


Width = Callable[[Running], float]


def enough(
    running: Running, precision: float, minimum: int = MINIMUM, width: Width = half_width
) -> bool:
    """Say whether the mean is known to -/+ `precision` at 95 %, and `minimum` prompts were seen."""
    return running.n >= minimum and width(running) <= precision


class Followed:
    """The mean of an evaluation while its images come: whether fewer than all are enough.

    A prompt counts once all of its images are there, in the order in which the first of each came:
    so the answer is, to the last digit, that of all images read again. The work for an image does
    not grow with those before it, as long as prompts become whole about in their order.

    Args:
        images: Of each prompt.
        precision: See `enough`.
        width: The half width that has to be as small.
    """

    def __init__(self, images: int, precision: float, width: Width = half_width) -> None:
        self._images, self._width = images, width
        self._precision = precision
        self._counted = Running()  # up to the first prompt that is not whole
        self._open: dict[str, dict[int, float]] = {}  # from there on: image index -> score
        self.enough = False

    def add(self, scores: Iterable[tuple[str, int, float]]) -> None:
        """Take images into account: prompt id, image index and score of each; none comes twice."""
        for prompt, index, score in scores:
            self._open.setdefault(prompt, {})[index] = score
        counted, through, whole = self._counted, True, []
        for prompt, row in self._open.items():
            if len(row) == self._images:
                counted = counted.add(math.fsum(row.values()) / len(row))
            else:
                through = False
            if through:
                self._counted = counted
                whole.append(prompt)
        for prompt in whole:
            del self._open[prompt]
        self.enough = enough(counted, self._precision, width=self._width)
