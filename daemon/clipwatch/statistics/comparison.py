"""What a comparison of two evaluations says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

Verdict = Literal["better", "worse", "inconclusive"]

OPPOSITE: Final[Mapping[Verdict, Verdict]] = {
    "better": "worse",
    "worse": "better",
    "inconclusive": "inconclusive",
}
"""What a verdict says of a beside b."""


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
        picked: Of how many evaluations one of both was picked as the highest; p, interval and
            verdict are corrected for it. 0 where they are not.
        stopped: One of both ended by what such a difference was: interval and p hold at every look.
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
    picked: int = 0
    stopped: bool = False

    def turned(self) -> Comparison:
        """Return the same with a and b in each other's place."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            delta=-self.delta,
            low=-self.high,
            high=-self.low,
            wins=self.losses,
            losses=self.wins,
            verdict=OPPOSITE.get(self.verdict, self.verdict),
        )
