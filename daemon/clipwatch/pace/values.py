"""What a checkpoint costs against how often one is saved. Pure: no files, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

ROOM = 0.9
"""Share of the time between two saves that an evaluation which keeps up may take."""

MUCH = 1.25
"""By so much the load must differ to be told again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What one checkpoint takes, and when the next one is there.

    Attributes:
        prompts, images: Of a checkpoint, the images at all strengths.
        seconds: It takes; 0.0 until one was measured.
        loading: Of these, what fewer prompts would not spare.
        steps: Of the training between two saves; 0 while unknown, and where epochs are counted.
        between: Seconds between two saves; 0.0 while unknown, or when the training saves no more.
        limit: Checkpoints that the trainer keeps; 0 for all, None if nobody knows.
        waiting: Checkpoints that wait for their evaluation.
        times: Evaluations of a checkpoint: one for each strength.
        behind: What becomes of those that come too fast, by the settings.
    """

    prompts: int
    images: int
    seconds: float = 0.0
    loading: float = 0.0
    steps: int = 0
    between: float = 0.0
    limit: int | None = None
    waiting: int = 0
    times: int = 1
    behind: str = "wait"

    @property
    def load(self) -> float:
        """The work that comes in over the work that can be done; 0.0 while one is unknown."""
        return self.seconds / self.between if self.between else 0.0

    @property
    def scored(self) -> float:
        """The share of the checkpoints that is scored while the training goes on, above 0, to 1.

        The newest is evaluated first, so that one that was passed over never has its turn while
        evaluations take longer than saves: how many are kept makes no difference to the share.
        """
        return 1 / max(1.0, self.load)

    @property
    def fitting(self) -> int:
        """The most prompts that keep up; 0 for none."""
        each = (self.seconds - self.loading) / self.prompts
        left = ROOM * self.between - self.loading
        return math.floor(left / each) if left > 0 and each > 0 else 0


def is_news(before: Pace | None, now: Pace) -> bool:
    """Whether a pace is worth a word after what was said of another one, None for nothing."""
    if before is None:
        return True
    if before.behind != now.behind:
        return now.load > 1
    if not before.seconds or not now.seconds:
        return bool(now.seconds)
    if not before.between or not now.between:
        return bool(now.between)
    if before.load <= 1 and now.load <= 1:
        return False
    return max(before.load / now.load, now.load / before.load) >= MUCH
