"""A receiver of webhooks on loopback, which keeps what it gets and answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """A receiver: what it got, and the codes that it answers with, the last one for ever."""

    address: str
    codes: list[int] = field(default_factory=lambda: [204])
    got: list[dict[str, Any]] = field(default_factory=list)
    login: str | None = None
    asked: int = 0


@contextmanager
def hook() -> Iterator[Hook]:
    """Run one until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = kept.codes.pop(0) if len(kept.codes) > 1 else kept.codes[0]
            kept.got.append(json.loads(body))
            kept.login = self.headers["Authorization"]
            self.send_response(code)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            kept.asked += 1
            self.send_error(200)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Hook(f"http://127.0.0.1:{server.server_port}/services/T0KEN")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()
