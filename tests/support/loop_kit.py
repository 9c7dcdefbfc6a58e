"""What tests of the loop ask, and a tracker that fails as they say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from clipwatch.results import view
from clipwatch.results.series import Series
from world import MemoryTracker, World


def until(true: Callable[[], bool]) -> None:
    """Wait for another thread's work, a minute at most."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def states(world: World) -> dict[int, str]:
    """Return step → state, {} before the run began."""
    if not world.log.exists():
        return {}
    return {row.step: row.state for row in view.rows(world.run)}


class Faulty(MemoryTracker):
    """A memory tracker that raises `error` while it is set, and hangs while `hold` is."""

    error: Exception | None = None
    hold: threading.Event | None = None

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Wait, fail, or do it."""
        if self.hold is not None:
            self.hold.wait(60)
        if self.error is not None:
            raise self.error
        super().publish(series, missing)
