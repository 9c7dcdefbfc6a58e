"""The difference between the means of two sets that share nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of one set less that of the other, and its 95 % interval.

    By Student's law with Welch's degrees of freedom (Welch 1947, "The generalization of Student's
    problem when several different population variances are involved", Biometrika 34).

    Args:
        one: Two values at least, as has the other.
        other: Independent of them.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    delta, variance = float(a.mean() - b.mean()), float(sum(parts))
    if variance == 0.0:
        return delta, delta, delta
    degrees = variance**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return delta, delta - half, delta + half
