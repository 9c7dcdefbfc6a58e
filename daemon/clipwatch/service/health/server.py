"""The daemon's HTTP server: /healthz, /readyz, /metrics, /status. It reads, and changes nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from clipwatch import __version__
from clipwatch.results import view
from clipwatch.service.health.metrics import exposition
from clipwatch.service.health.probes import LoopState, not_alive, not_ready
from clipwatch.settings.values import Address

PATIENCE_SECONDS: Final = 10.0
"""How long a client may take over its request."""

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    code: int
    kind: str
    body: bytes


class HealthServer:
    """Serves from threads of its own until it is closed.

    Args:
        address: Where; port 0 for one that is free.
        loop: Returns what the loop last said; called from any thread.

    Raises:
        OSError: The address is taken, or not ours.
    """

    def __init__(self, address: Address, loop: Callable[[], LoopState]) -> None:
        pages: dict[str, Callable[[], Page]] = {
            "/healthz": lambda: _verdict(not_alive(loop(), time.monotonic())),
            "/readyz": lambda: _verdict(not_ready(loop(), time.monotonic())),
            "/status": lambda: Page(200, "application/json", _status(loop())),
        }
        metrics = exposition(loop)
        pages["/livez"] = pages["/healthz"]
        pages["/metrics"] = lambda: Page(200, CONTENT_TYPE_LATEST, metrics())
        family, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing of a client that went away."""

        self._server = Server((str(place[0]), int(place[1])), _handler(pages))
        host, port = self._server.server_address[:2]
        self.address = Address(str(host), int(port))
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(pages: dict[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            known = " ".join(sorted(pages)).encode()
            page = make() if make else Page(404, _TEXT, b"known are " + known + b"\n")
            self.send_response(page.code)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815

        def version_string(self) -> str:
            return f"clipwatch/{__version__}"

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler


def _verdict(problem: str) -> Page:
    return Page(503 if problem else 200, _TEXT, f"{problem or 'ok'}\n".encode())


def _status(loop: LoopState) -> bytes:
    told = view.as_json({loop.run.name: loop.run} if loop.run else {})
    own = {"version": __version__, "phase": loop.phase, "log_sequence": loop.seq}
    return json.dumps({**own, **told}).encode() + b"\n"
