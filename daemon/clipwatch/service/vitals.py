"""What the outside hears of the loop: the service manager, the heartbeat and the HTTP pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clipwatch.domain.state import Run
from clipwatch.results.view import summary
from clipwatch.service.alive import BEAT_SECONDS, Heart
from clipwatch.service.health.pulse import Pulse
from clipwatch.service.sd_notify import ServiceManager
from clipwatch.settings import Settings
from clipwatch.settings.values import Address

if TYPE_CHECKING:
    from clipwatch.service.health.server import HealthServer


class Vitals:
    """Told by the loop at each turn; all that is said of its health comes from there.

    Args:
        settings: Of the run.
        name: The run's.
        service: The service manager.
        say: Tells a person.
    """

    def __init__(
        self, settings: Settings, name: str, service: ServiceManager, say: Callable[[str], None]
    ) -> None:
        self._service = service
        self._say = say
        self._heart = Heart(settings.paths.state_dir, name, settings.paths.output_dir)
        self._pulse = Pulse()
        self._status = "starting"
        self._server: HealthServer | None = None
        self._address: Address | None = None
        self.adopt(settings)

    @property
    def patience(self) -> float:
        """How many seconds the loop may let pass without a beat."""
        return min(BEAT_SECONDS, self._service.patience)

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
            self._server = HealthServer(wanted, lambda: self._pulse)
        except OSError as error:
            why = error.strerror or error
            self._say(f"no health page: {wanted}: {why}; name another health_address, or off")
        else:
            self._say(f"health and metrics on http://{self._server.address}")

    def beat(self, run: Run | None, seq: int, phase: str = "") -> None:
        """Show that the loop goes round; `phase` as in Pulse, "" for the same as before."""
        before = self._pulse
        self._pulse = Pulse(run, seq, phase or before.phase)
        if run is not None and (run is not before.run or phase):
            self._status = summary(run)
        self._service.alive(self._status)
        self._heart.beat(self._status)

    def ready(self) -> None:
        """We work by our settings: after the start, and after each reload."""
        self._enter("watching")
        self._service.ready()

    def reloading(self) -> None:
        """We read our settings again; `ready` ends it."""
        self._service.reloading()

    def stopping(self, phase: str, seconds: float) -> None:
        """We end, within so many seconds."""
        self._enter(phase)
        self._service.stopping(seconds)

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._close_server()
        self._heart.stop()

    def _enter(self, phase: str) -> None:
        self._pulse = Pulse(self._pulse.run, self._pulse.seq, phase)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
