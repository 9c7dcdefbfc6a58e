"""The daemon's HTTP server: /healthz, /readyz, /metrics, /status. It reads, and changes nothing."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from ipaddress import ip_address
from typing import Any, Final, cast

from prometheus_client import CONTENT_TYPE_LATEST

from clipwatch import __version__
from clipwatch.results.progress import Watcher
from clipwatch.results.told import as_json
from clipwatch.service.health.metrics import exposition
from clipwatch.service.health.probes import LoopState, not_alive, not_ready
from clipwatch.settings.values import Address

PATIENCE_SECONDS: Final = 10.0
"""How long a client may take over its whole request."""

BEGAN: Final = datetime.now(UTC)
"""About when the daemon began, whose process this is."""

MOST_BYTES: Final = 16 * 1024
"""Of a request; Kubernetes and Prometheus send some hundred."""

MOST_CLIENTS: Final = 16
"""At once; a further one takes the place of who has been there longest."""

OF_LOOPBACK: Final = re.compile(
    r"|(localhost|[\w.-]+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])\.?(:\d+)?",
    re.IGNORECASE | re.ASCII,
)
"""What a client of this machine calls us, or nothing, as old ones do."""

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

        loopback = ip_address(str(place[0]).partition("%")[0]).is_loopback
        served = _handler(pages, OF_LOOPBACK if loopback else None)
        self._server = _Server(family, (str(place[0]), int(place[1])), served)
        host, port = self._server.server_address[:2]
        self.address = Address(str(host), int(port))
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Has few clients at once, however many there are and however slow."""

    daemon_threads = True
    request_queue_size = 128  # of five, a probe amid a crowd would be turned away for seconds

    def __init__(
        self, family: int, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]
    ) -> None:
        self.address_family = family
        self._clients: dict[socket.socket, None] = {}  # who came first stands first
        self._lock = threading.Lock()
        super().__init__(place, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._clients) >= MOST_CLIENTS:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                hang_up(oldest)  # whose thread ends by that
            self._clients[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


def hang_up(client: socket.socket) -> None:
    """Have whoever reads from a client, or writes to it, see its end."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


class _Head:
    """What is read of a client: so many bytes, then no more."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file, self._left = file, MOST_BYTES

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(min(limit, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._file.close()


def _handler(
    pages: dict[str, Callable[[], Page]], hosts: re.Pattern[str] | None
) -> type[BaseHTTPRequestHandler]:
    """Return what answers with pages, to who calls us by one of our names, or by any if None."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def setup(self) -> None:
            super().setup()
            self.rfile = cast("Any", _Head(self.rfile))
            self._patience = threading.Timer(PATIENCE_SECONDS, hang_up, [self.connection])
            self._patience.daemon = True
            self._patience.start()

        def finish(self) -> None:
            self._patience.cancel()
            super().finish()

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            host = self.headers.get("Host", "")
            if hosts and not hosts.fullmatch(host):
                # a page of the web whose name leads here would read what only this machine may
                page = Page(421, _TEXT, b"ask by localhost or by the address\n")
            elif make:
                page = make()
            else:
                known = " ".join(sorted(pages)).encode()
                page = Page(404, _TEXT, b"known are " + known + b"\n")
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
    state = {loop.run.name: loop.run} if loop.run else {}
    told = as_json(state, datetime.now(UTC), dict.fromkeys(state, Watcher(BEGAN)))
    own = {"version": __version__, "phase": loop.phase, "log_sequence": loop.seq}
    return json.dumps({**own, **told}).encode() + b"\n"
