"""What a comparison of two evaluations says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations on the prompts that they share, prompt by prompt; differences are b - a.

    Attributes:
        a, b: The evaluations, by id.
        n_prompts: Prompts that both have scores of.
        delta: Mean over prompts of b's mean score less a's, in cosines.
        low, high: 95 % interval of `delta`.
        p: Two-sided p-value of "no difference", 0..1.
        wins, ties, losses: Prompts on which b scored higher, equal, lower.
        detectable: The smallest true difference that 80 % of such comparisons would show.
        verdict: "better" or "worse" (b than a) if the interval leaves out 0, else "inconclusive".
    """

    a: str
    b: str
    n_prompts: int
    delta: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int
    detectable: float
    verdict: Verdict
