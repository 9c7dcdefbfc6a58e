"""The daemon's HTTP server: /healthz, /readyz, /metrics, /status. It reads, and changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from clipwatch import __version__
from clipwatch.results.progress import Watcher
from clipwatch.results.told import as_json
from clipwatch.service.health.metrics import exposition
from clipwatch.service.health.probes import LoopState, not_alive, not_ready, worst
from clipwatch.service.web import Asked, Page, WebServer, told
from clipwatch.settings.values import Address

BEGAN: Final = datetime.now(UTC)
"""About when the daemon began, whose process this is."""


class HealthServer(WebServer):
    """Serves from threads of its own until it is closed.

    Args:
        address: Where; port 0 for one that is free.
        loops: Returns what the loop last said of each run; called from any thread.

    Raises:
        OSError: The address is taken, or not ours.
    """

    def __init__(self, address: Address, loops: Callable[[], Sequence[LoopState]]) -> None:
        pages: dict[str, Callable[[], Page]] = {
            "/healthz": lambda: _verdict(worst(loops(), time.monotonic(), not_alive)),
            "/readyz": lambda: _verdict(worst(loops(), time.monotonic(), not_ready)),
            "/status": lambda: Page(200, "application/json", _status(loops())),
        }
        metrics = exposition(loops)
        pages["/livez"] = pages["/healthz"]
        pages["/metrics"] = lambda: Page(200, CONTENT_TYPE_LATEST, metrics())

        def get(asked: Asked) -> Page:
            make = pages.get(asked.path)
            return make() if make else told(404, f"known are {' '.join(sorted(pages))}")

        super().__init__(address, get)


def _verdict(problem: str) -> Page:
    return told(503 if problem else 200, problem or "ok")


def _status(loops: Sequence[LoopState]) -> bytes:
    state = {loop.run.name: loop.run for loop in loops if loop.run}
    runs = as_json(state, datetime.now(UTC), dict.fromkeys(state, Watcher(BEGAN)))
    phase = next((it.phase for it in loops if it.phase != "watching"), "watching")
    own = {"version": __version__, "phase": phase, "log_sequence": max(it.seq for it in loops)}
    return json.dumps({**own, **runs}).encode() + b"\n"
