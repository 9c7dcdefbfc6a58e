"""What the outside hears of one run: the heartbeat and the HTTP pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from clipwatch.domain.state import Run
from clipwatch.results.view import summary
from clipwatch.service.health.desk import Desk
from clipwatch.service.health.probes import LoopState, Phase
from clipwatch.service.heartbeat import HeartbeatFile
from clipwatch.settings import Settings
from clipwatch.settings.values import Address

STATUS_SHARE = 0.01
"""The most of the loop's time that goes into its status: that grows with the checkpoints."""


class HealthReporter:
    """Told by the loop at each turn; all that is said of its health comes from there.

    Args:
        settings: Of the run.
        name: The run's.
        say: Tells a person.
        desk: Serves the pages.
    """

    def __init__(
        self, settings: Settings, name: str, say: Callable[[str], None], desk: Desk
    ) -> None:
        self._say, self._name, self._desk = say, name, desk
        self._heartbeat = HeartbeatFile(settings.paths.state_dir, name, settings.paths.named)
        self._loop = LoopState()
        self.status = "starting"
        """A line for a person; beside thousands of checkpoints it may be some seconds old."""
        self._told: Run | None = None  # of which `status` speaks
        self._tell_at = 0.0
        self._served = False
        self._address: Address | None = None
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Serve where these settings say; an address that cannot be had is no reason to end."""
        wanted = settings.service.health_address
        if wanted == self._address and (self._served or wanted is None):
            return
        self._leave()
        self._address = wanted
        if wanted is None:
            return
        try:
            told = self._desk.attend(wanted, self._name, lambda: self._loop)
        except OSError as error:
            why = error.strerror or error
            self._say(f"no health page: {wanted}: {why}; name another health_address, or off")
        else:
            self._served = True
            if told:
                self._say(f"health and metrics on http://{told}")

    def beat(self, run: Run | None, seq: int, waiting: str = "", doing: str = "") -> None:
        """Show that the loop goes round and what is in hand, or what the log is waited for."""
        began = time.monotonic()
        self._loop = LoopState(run, seq, self._loop.phase, began, waiting)
        if waiting:
            self.status, self._told = waiting, None
        elif run is not None and run is not self._told and began >= self._tell_at:
            self.status, self._told = summary(run), run
            now = time.monotonic()
            self._tell_at = now + (now - began) / STATUS_SHARE
        self._heartbeat.beat(self.status, doing)

    @property
    def seconds_left(self) -> float:
        """How long until the status is to be told anew; infinity when it is up to date."""
        late = self._loop.run is not self._told and not self._loop.waiting
        return max(0.0, self._tell_at - time.monotonic()) if late else float("inf")

    def enter(self, phase: Phase) -> None:
        """Be in another phase, as in LoopState."""
        self._loop = replace(self._loop, phase=phase, at=time.monotonic())

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._leave()
        self._heartbeat.stop()

    def _leave(self) -> None:
        if self._served and self._address is not None:
            self._desk.leave(self._address, self._name)
        self._served = False
