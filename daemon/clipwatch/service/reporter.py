"""What the outside hears of one run: the heartbeat and the HTTP pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from clipwatch.domain.state import Run
from clipwatch.results.view import summary
from clipwatch.service.health.probes import LoopState, Phase
from clipwatch.service.heartbeat import HeartbeatFile
from clipwatch.settings import Settings
from clipwatch.settings.values import Address

if TYPE_CHECKING:
    from clipwatch.service.health.server import HealthServer

STATUS_SHARE = 0.01
"""The most of the loop's time that goes into its status: that grows with the checkpoints."""


class HealthReporter:
    """Told by the loop at each turn; all that is said of its health comes from there.

    Args:
        settings: Of the run.
        name: The run's.
        say: Tells a person.
    """

    def __init__(self, settings: Settings, name: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._heartbeat = HeartbeatFile(settings.paths.state_dir, name, settings.paths.named)
        self._loop = LoopState()
        self.status = "starting"
        """A line for a person; beside thousands of checkpoints it may be some seconds old."""
        self._told: Run | None = None  # of which `status` speaks
        self._tell_at = 0.0
        self._server: HealthServer | None = None
        self._address: Address | None = None
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Serve where these settings say; an address that cannot be had is no reason to end."""
        wanted = settings.service.health_address
        if wanted == self._address and (self._server is not None or wanted is None):
            return
        self._close_server()
        self._address = wanted
        if wanted is None:
            return
        from clipwatch.service.health.server import HealthServer

        try:
            self._server = HealthServer(wanted, lambda: self._loop)
        except OSError as error:
            why = error.strerror or error
            self._say(f"no health page: {wanted}: {why}; name another health_address, or off")
        else:
            self._say(f"health and metrics on http://{self._server.address}")

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
        self._close_server()
        self._heartbeat.stop()

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
