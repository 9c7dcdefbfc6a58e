"""The mean of all prompts, told from a part of them and from evaluations that have all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from clipwatch.statistics.anytime import critical
from clipwatch.statistics.intervals import CONFIDENCE, describe
from clipwatch.statistics.scores import Scores, prompt_means
from clipwatch.statistics.summary import Summary

Array = NDArray[np.float64]

FEWEST: Final = 8
"""Prompts for each evaluation that helps, and as many beside: fewer fit anything."""


@dataclass(frozen=True, slots=True)
class Told:
    """A mean that is estimated.

    Attributes:
        summary: With the estimate, its standard error and its interval; all else is of the part.
        effective: How many prompts would tell their plain mean as closely.
        plain: The mean of the part.
    """

    summary: Summary
    effective: float
    plain: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A mean as least squares tell it; see `told_from`.

    Attributes:
        mean: The estimate.
        of_part, of_library: Both terms of its squared standard error.
        spread: The variance of the values themselves.
        counts: Prompts of the part and of the library, and evaluations that help.
    """

    mean: float
    of_part: float
    of_library: float
    spread: float
    counts: tuple[int, int, int]

    @property
    def se(self) -> float:
        """The standard error."""
        return math.sqrt(self.of_part + self.of_library)

    def half(self, *, stopped: bool) -> float:
        """Return half the width of the 95 % interval; see `told_from`."""
        part, library, helpers = self.counts
        factor = _t(part - 1 - helpers)
        if stopped:
            factor = max(factor, critical(part))
        return math.sqrt(factor**2 * self.of_part + _t(library - 1) ** 2 * self.of_library)


def fit(own: Array, others: Array, library: Array) -> Fit:
    """Return the regression estimate.

    Args:
        own: The part's values, shape (n,).
        others: Those of the same prompts in the other evaluations, shape (n, q).
        library: Those of all prompts, shape (N, q).
    """
    count, helpers = others.shape
    centred, gap = others - others.mean(axis=0), library.mean(axis=0) - others.mean(axis=0)
    inverse = np.linalg.pinv(centred.T @ centred)
    slope = inverse @ centred.T @ (own - own.mean())
    left = own - own.mean() - centred @ slope
    residual = float(left @ left) / (count - 1 - helpers)
    fitted = float((library @ slope).var(ddof=1))
    return Fit(
        mean=float(own.mean() + gap @ slope),
        of_part=residual * (1 / count + float(gap @ inverse @ gap)),
        of_library=fitted / len(library),
        spread=residual + fitted,
        counts=(count, len(library), helpers),
    )


def told_from(part: Scores, wholes: Sequence[Scores], *, stopped: bool) -> Told | None:
    """Estimate an evaluation's mean over all prompts; None where there is too little to go by.

    The regression estimate in two phases (Cochran 1977, "Sampling techniques", 12.6): with y the
    means of the n prompts of the part, x those of the same prompts in the other evaluations, and X
    those of all N prompts,

        mean = mean(y) + b (mean(X) - mean(x))
        se^2 = s^2 (1 / n + h) + b Cov(X) b / N

    where b and the residuals' variance s^2 are those of the least squares, with q more degrees of
    freedom taken for q evaluations, and h = d S^-1 d for d = mean(X) - mean(x) is what the fit of b
    adds. The second term is of the prompts themselves: the interval speaks, as `describe` does, of
    all prompts that are like these.

    Of an evaluation that ended by what it was, the first term counts by the sequence of `anytime`
    and not by Student's t: that looks at the very prompts by which it was ended.

    Args:
        part: The evaluation, on prompts in an order of which each beginning speaks for the whole.
        wholes: Others; prompts that one of them lacks do not count.
        stopped: It ended by what it was.

    Raises:
        ValueError: A score is not finite.
    """
    own, others = prompt_means(part), [prompt_means(it) for it in wholes]
    library = [id_ for id_ in (others[0] if others else {}) if all(id_ in it for it in others)]
    shared = [id_ for id_ in library if id_ in own]
    if not others or len(shared) < FEWEST * (len(others) + 1):
        return None
    found = fit(
        np.array([own[id_] for id_ in shared]),
        np.array([[it[id_] for it in others] for id_ in shared]),
        np.array([[it[id_] for it in others] for id_ in library]),
    )
    summary, half = describe(part), found.half(stopped=stopped)
    effective = found.spread / found.se**2 if found.se else float(len(library))
    told = replace(
        summary, mean=found.mean, se=found.se, low=found.mean - half, high=found.mean + half
    )
    return Told(told, effective, summary.mean)


def _t(degrees: int) -> float:
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
