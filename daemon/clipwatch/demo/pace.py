"""How far a training is when it must be through in time: by its steps, or by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

FEWEST = 20
"""Steps between two checkpoints of a training whose time is limited: about what scoring one costs,
so that a slow machine does not fall behind."""


class Pace:
    """The way of a training through its steps; equal to their count where time is no limit.

    Args:
        steps: Of the whole training, at least 1.
        every: So many of them lie between two checkpoints.
        seconds: By then it is through, however few steps were made; 0.0 for no limit.
        clock: Seconds since whenever; the training starts now.
    """

    def __init__(
        self,
        steps: int,
        every: int,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps, self._every, self._seconds = steps, every, seconds
        self._clock = clock
        self._began = clock()
        self._saved = self._marks = 0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def position(self, done: int) -> int:
        """Return where in 0..steps the training is after `done` steps: the clock may be ahead."""
        ahead = int(self._steps * self.spent / self._seconds) if self._seconds else 0
        return min(max(done, ahead), self._steps)

    def saves(self, done: int, position: int) -> bool:
        """Whether a checkpoint is due after `done` steps, at this position; told once."""
        marks = position // self._every
        near = self._seconds > 0 and done - self._saved < FEWEST and position < self._steps
        if marks == self._marks or near:
            return False
        self._saved, self._marks = done, marks
        return True
