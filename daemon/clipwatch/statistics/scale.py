"""In what range a scorer's numbers lie, and which differences between them mean anything."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Near:
    """From which score on an image is nearer to a training image than likeness explains.

    Attributes:
        bound: That score.
        usual: How many training images are that near to another one.
        of: Of so many.
        reached: Share of copies that are, made of training images to know it, 0..1.
    """

    bound: float
    usual: int
    of: int
    reached: float


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale of a scorer, in its own unit; more is better.

    Attributes:
        low, high: No score lies outside of them; finite.
        tie: Differences up to here are none: the same picture, computed in another way.
        worth: A difference of means that matters by default, above 0; None where nobody knows.
        digits: Decimals with which a score is told.
        poor, saturated: A mean surely below `poor` is advised about, and one surely above
            `saturated`, if nobody sets other bounds; None for never.
        near: Of a scorer that finds copies, once it was loaded.
        turned: They are losses, of which less is better: tables hold them with the sign turned, so
            that nothing that compares has to know, and who tells them turns them back.

    Raises:
        ValueError: It is no scale.
    """

    low: float
    high: float
    tie: float = 0.0
    worth: float | None = None
    digits: int = 4
    poor: float | None = None
    saturated: float | None = None
    near: Near | None = None
    turned: bool = False

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high
        if not finite or not 0 <= self.tie < self.bound or self.digits < 0:
            raise ValueError(f"{self} has no finite range, or no sense in it")
        if self.worth is not None and not 0 < self.worth < math.inf:
            raise ValueError(f"{self}: a difference that matters is above 0")

    @property
    def bound(self) -> float:
        """No two scores differ by more."""
        return self.high - self.low


COSINE = Scale(-1.0, 1.0, tie=2.5e-5)
"""Of all dual encoders. The same weights and seeds give another cosine in another batch, by up to
2.1e-5: float32 sums in another order change the image a little (benchmarks/RESULTS.md; 2.0e-5
there)."""

LOSSES = Scale(-1e9, 0.0, tie=1e-5, turned=True)
"""Of losses on fixed images. float32 sums in another order change one by up to 1e-5 of it."""

UNKNOWN = Scale(-1e9, 1e9)
"""Of a kind of scorers that is not installed here: its numbers are told, and nothing supposed."""
