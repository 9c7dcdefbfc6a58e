"""Where a daemon is asked for its health: an address serves all runs that name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clipwatch.service.health.probes import LoopState
from clipwatch.settings.values import Address

if TYPE_CHECKING:
    from clipwatch.service.health.server import HealthServer


@dataclass(slots=True)
class _Served:
    """A server, and what the loop last said of each run there."""

    server: HealthServer
    runs: dict[str, Callable[[], LoopState]] = field(default_factory=dict)


class Desk:
    """Has a server for each address that is named; used from the loop's thread."""

    def __init__(self) -> None:
        self._served: dict[Address, _Served] = {}
        self._kept: Address | None = None
        self.own = LoopState()
        """What is told where there is no run."""

    def keep(self, address: Address) -> str:
        """Serve there until the end, whichever runs come and go; return as `attend`.

        Raises:
            OSError: As `attend`.
        """
        told = self._open(address)
        self._kept = address
        return told

    def attend(self, address: Address, run: str, loop: Callable[[], LoopState]) -> str:
        """Serve a run at an address; return where that is if nobody did so before, else "".

        Args:
            address: As the settings name it; port 0 is one free port for all that ask for it.
            run: Its name.
            loop: Returns what the loop last said of it; called from any thread.

        Raises:
            OSError: The address is taken, or not ours.
        """
        told = self._open(address)
        self._served[address].runs[run] = loop
        return told

    def leave(self, address: Address, run: str) -> None:
        """Serve a run there no more; without any the address is free again."""
        served = self._served.get(address)
        if served is None or served.runs.pop(run, None) is None:
            return
        if not served.runs and address != self._kept:
            self._served.pop(address).server.close()

    def close(self) -> None:
        """Serve nobody any more."""
        for served in self._served.values():
            served.server.close()
        self._served.clear()

    def _open(self, address: Address) -> str:
        if address in self._served:
            return ""
        from clipwatch.service.health.server import HealthServer

        runs: dict[str, Callable[[], LoopState]] = {}

        def loops() -> list[LoopState]:
            return [loop() for loop in list(runs.values())] or [self.own]

        server = HealthServer(address, loops)
        self._served[address] = _Served(server, runs)
        return str(server.address)
