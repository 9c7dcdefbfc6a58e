"""A small HTTP server: few clients, each with few bytes and little time, whatever they send."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from ipaddress import ip_address
from typing import Any, Final, cast

from clipwatch import __version__
from clipwatch.settings.values import Address

PATIENCE_SECONDS: Final = 10.0
"""How long a client may take over its whole request."""

MOST_BYTES: Final = 16 * 1024
"""Of a request, its body included; Kubernetes, Prometheus and browsers send some hundred."""

MOST_CLIENTS: Final = 16
"""At once; a further one takes the place of who has been there longest."""

OF_LOOPBACK: Final = re.compile(
    r"|(localhost|[\w.-]+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])\.?(:\d+)?",
    re.IGNORECASE | re.ASCII,
)
"""What a client of this machine calls us, or nothing, as old ones do."""

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its path and query as they were sent, its headers, and of a POST its body."""

    path: str
    query: str
    headers: Message
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; `headers` are further ones, and may replace that which forbids to keep it."""

    code: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Page]


def told(code: int, text: str) -> Page:
    """Return a line of text."""
    return Page(code, TEXT, f"{text}\n".encode())


class WebServer:
    """Serves from threads of its own until it is closed.

    On loopback it answers only to who calls it by a name of this machine.

    Args:
        address: Where; port 0 for one that is free.
        get: Answers GET and HEAD; called from any thread.
        post: Answers POST; without it there is none.

    Raises:
        OSError: The address is taken, or not ours.
    """

    def __init__(self, address: Address, get: Answer, post: Answer | None = None) -> None:
        family, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        hosts = OF_LOOPBACK if is_loopback(str(place[0])) else None
        served = _handler({"GET": get, "HEAD": get} | ({"POST": post} if post else {}), hosts)
        self._server = _Server(family, (str(place[0]), int(place[1])), served)
        host, port = self._server.server_address[:2]
        self.address = Address(str(host), int(port))
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def is_loopback(place: str) -> bool:
    """Whether a numeric address is this machine's own."""
    return ip_address(place.partition("%")[0]).is_loopback


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


class _Bounded:
    """What is read of a client: so many bytes, then no more."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file, self.left = file, MOST_BYTES

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(min(limit, self.left))
        self.left -= len(line)
        return line

    def read(self, count: int) -> bytes:
        data = self._file.read(min(count, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()


def _handler(
    answers: Mapping[str, Answer], hosts: re.Pattern[str] | None
) -> type[BaseHTTPRequestHandler]:
    """Return what answers by method, to who calls us by one of our names, or by any if None."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def setup(self) -> None:
            super().setup()
            self._sent = _Bounded(self.rfile)
            self.rfile = cast("Any", self._sent)
            self._patience = threading.Timer(PATIENCE_SECONDS, hang_up, [self.connection])
            self._patience.daemon = True
            self._patience.start()

        def finish(self) -> None:
            self._patience.cancel()
            super().finish()

        def do_GET(self) -> None:
            answer = answers.get(self.command)
            if answer is None:
                self.send_error(501, f"Unsupported method ({self.command!r})")
                return
            page = self._page(answer)
            self.send_response(page.code)
            fixed = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
            own = {"Content-Type": page.kind, "Content-Length": str(len(page.body))}
            for name, value in (fixed | dict(page.headers) | own).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def _page(self, answer: Answer) -> Page:
            if hosts and not hosts.fullmatch(self.headers.get("Host", "")):
                # a page of the web whose name leads here would read what only this machine may
                return told(421, "ask by localhost or by the address")
            path, _, query = self.path.partition("?")
            if self.command != "POST":
                return answer(Asked(path, query, self.headers))
            length = self.headers.get("Content-Length", "")
            if not re.fullmatch("[0-9]{1,9}", length):
                return told(411, "say how long it is")
            if int(length) > self._sent.left:
                return told(413, "it is too long")
            return answer(Asked(path, query, self.headers, self._sent.read(int(length))))

        def version_string(self) -> str:
            return f"clipwatch/{__version__}"

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler
