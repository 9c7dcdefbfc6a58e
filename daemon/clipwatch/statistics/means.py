"""The means of several evaluations on the same prompts, and how they vary together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from clipwatch.statistics.scores import Scores, shared_means

FEWEST: Final = 6
"""With fewer prompts nothing is said to be sure (see `flips.rank`)."""


@dataclass(frozen=True, slots=True)
class Means:
    """Means of evaluations, one after the other.

    Attributes:
        values: The means, cosines; shape (evaluations,).
        covariance: Of these means over sets of prompts like these: that of the prompts' scores
            divided by their number; shape (evaluations, evaluations).
        prompts: That all share.
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    prompts: int

    @classmethod
    def of(cls, table: ArrayLike) -> Means:
        """Take them from scores, a row for each prompt and a column for each evaluation."""
        rows = np.asarray(table, dtype=np.float64)
        prompts, evaluations = rows.shape
        covariance = np.zeros((evaluations, evaluations))
        if prompts > 1:
            centred = rows - rows.mean(axis=0)
            covariance = centred.T @ centred / (prompts - 1) / prompts
        return cls(rows.mean(axis=0), covariance, prompts)

    @classmethod
    def shared(cls, evaluations: Sequence[Scores]) -> Means:
        """Take them from evaluations, on the prompts and images that all have.

        Raises:
            ValueError: They share no scored prompt, or a score is not finite.
        """
        return cls.of(shared_means(evaluations))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Means:
        return Means(self.values[part], self.covariance[part, part], self.prompts)

    def combined(self, weights: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weighted sums of the means, and the variance of each; weights a row for each."""
        rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        variances = np.einsum("ij,ij->i", rows @ self.covariance, rows)
        return rows @ self.values, np.maximum(variances, 0.0)

    def errors(self, sure: float) -> float:
        """Return the standard errors by which a difference must pass a bound to be so sure, 0..1.

        On one side, by Student's law; infinite for too few prompts.
        """
        return float(stdtrit(self.prompts - 1, sure)) if self.prompts >= FEWEST else np.inf
