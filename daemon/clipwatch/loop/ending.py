"""When a daemon ends: when it is asked to, with the training, or when there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clipwatch.layouts.exports import export_written
from clipwatch.settings.values import Ends

STOP_SECONDS = 20.0
"""How long a tracker may take to finish when we are asked to stop."""

RESUME_SECONDS = 1800.0
"""How long a resumed training may take to show something new: its last end may still be marked."""

LAST_SECONDS = 3600.0
"""How long failed work is tried again once the training has ended."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to do for a run, and to wait for.

    Attributes:
        at_work: A checkpoint is evaluated, or can be now; or a result is on its way.
        delivering: A result or advice is on its way.
        preparing: The models are looked at, or have to be.
        settling: Something may be a checkpoint in a moment.
        queued: A checkpoint has no score yet, and may wait for another attempt.
        owed: A tracker does not show everything, and is tried again.
    """

    at_work: bool
    delivering: bool
    preparing: bool
    settling: bool
    queued: bool
    owed: bool

    @property
    def busy(self) -> bool:
        """Whether anything is in hand, or can be taken up now."""
        return self.at_work or self.preparing or self.settling

    @property
    def unevaluated(self) -> bool:
        """Whether a checkpoint may still get a score, now or after a pause."""
        return self.at_work or self.settling or self.queued

    @property
    def waiting(self) -> bool:
        """Whether failed work is to be tried again later."""
        return self.queued or self.owed


class Deadlines:
    """How long a daemon that was asked to stop goes on; all by the clock that nobody sets.

    Asked once it drains: for `drain_seconds` it evaluates what is left, then trackers have
    STOP_SECONDS. Asked twice it ends at once.

    Args:
        clock: Seconds since whenever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked = False
        self._clock = clock
        self._drain_by = self._stop_by = 0.0

    def ask(self, drain_seconds: float) -> float:
        """Take note that somebody wants an end; return how many seconds it takes at most."""
        now = self._clock()
        patience = 0.0 if self.asked else drain_seconds + STOP_SECONDS
        self._drain_by = now + (0.0 if self.asked else drain_seconds)
        self._stop_by = now + patience
        self.asked = True
        return patience

    @property
    def evaluating(self) -> bool:
        """Whether evaluations go on."""
        return not self.asked or self._clock() < self._drain_by

    def done(self, left: Left) -> bool:
        """Whether a daemon that was asked to stop may end."""
        if self._clock() >= self._stop_by:
            return True
        if not self.evaluating:
            return not left.delivering
        return not left.busy and not left.unevaluated


class TrainingEnd:
    """Whether the training that is watched has ended.

    Args:
        ends: What tells it.
        output_dir: Of the training.
        clock: Seconds since whenever.
        today: Seconds since 1970, as files tell them.
    """

    def __init__(
        self,
        ends: Ends,
        output_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._ends = ends
        self._output_dir = output_dir
        self._clock = clock
        self._today = today
        self._began = today()
        self._news = clock()
        self._ended: float | None = None

    def news(self) -> None:
        """Take note that the training did something."""
        self._news = self._clock()

    def look(self, newest: float, settle_seconds: float) -> str:
        """Return what tells that it has ended, "" while it goes on.

        Args:
            newest: When the newest checkpoint was written (mtime, in seconds); 0.0 for none.
            settle_seconds: How long a final export must be unchanged.
        """
        reason = self._reason(newest, settle_seconds)
        if not reason:
            self._ended = None
        elif self._ended is None:
            self._ended = self._clock()
        return reason

    @property
    def waited(self) -> bool:
        """Whether it ended so long ago that failed work is not waited for any more."""
        return self._ended is not None and self._clock() - self._ended >= LAST_SECONDS

    def _reason(self, newest: float, settle_seconds: float) -> str:
        quiet = self._clock() - self._news
        idle = self._ends.idle_seconds
        if idle is not None and quiet >= idle:
            return f"nothing new came for {idle:g} s"
        if self._ends.file:
            with suppress(OSError):
                mark = self._output_dir / self._ends.file
                if self._counts(mark.stat().st_mtime, quiet):
                    return f"{mark} is there"
        written = export_written(self._output_dir) if self._ends.export else None
        if written is not None and written >= newest and self._counts(written, quiet):
            return "its final model is there" * (self._today() - written >= settle_seconds)
        return ""

    def _counts(self, written: float, quiet: float) -> bool:
        """A mark from before our start may be that of an earlier training, now resumed."""
        return written >= self._began or quiet >= RESUME_SECONDS
