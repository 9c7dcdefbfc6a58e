"""What a service manager is told of us: sd_notify(3). Without one nothing happens."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import suppress

MARGIN_SECONDS = 10.0
"""What ending the evaluator and closing files may take."""


class ServiceManager:
    """systemd, if it started us.

    Args:
        environ: The environment variables. NOTIFY_SOCKET names its socket; WATCHDOG_USEC is the
            time in microseconds after which it takes us for hanging (sd_watchdog_enabled(3)).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        watchdog = environ.get("WATCHDOG_USEC", "")
        self._interval = int(watchdog) / 2e6 if watchdog.isdecimal() else 0.0
        self._alive_at = 0.0
        self._status = ""

    @property
    def patience(self) -> float:
        """How many seconds we may let pass without `alive`."""
        return self._interval or float("inf")

    def ready(self) -> None:
        """We work by our settings: after the start, and after each reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """We read our settings again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """We end, and need so many seconds for it: TimeoutStopSec may be shorter."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round((seconds + MARGIN_SECONDS) * 1e6)}")

    def alive(self, status: str = "") -> None:
        """Our loop goes round; to be called at each turn. `status` is a line for a person."""
        if status and status != self._status:
            self._status = status
            self._send(f"STATUS={status}")
        if self._interval and time.monotonic() - self._alive_at >= self._interval / 2:
            self._alive_at = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with (
            suppress(OSError),  # it is gone, and we go on without it
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.connect(address)
            manager.send(state.encode())
