"""Questions to a server on loopback, and the page of `clipwatch serve` behind one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from clipwatch.report.live import Live
from clipwatch.report.site import Site
from clipwatch.service.web import WebServer
from clipwatch.settings.values import Address


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What its body says."""
        return json.loads(self.body)


def ask(
    address: Address,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request as it is, and return the answer."""
    with closing(HTTPConnection(address.host, address.port, timeout=30)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def get(address: Address, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask for a page; return code and body."""
    answer = ask(address, path, method)
    return answer.code, answer.body.decode()


@dataclass(frozen=True)
class Served:
    """The page of a log: what makes it, and where it is served."""

    live: Live
    address: Address

    def pair(self, run: str = "lora-1", question: str = "follows", *of: str) -> Any:
        """Return what is asked next."""
        among = "".join(f"&of={it}" for it in of)
        return ask(self.address, f"/pair?run={run}&question={question}{among}").json

    def vote(
        self, pair: str, choice: str = "left", headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """Vote as the page does, but for some headers; None is for leaving one out."""
        own: dict[str, str | None] = {
            "Origin": f"http://{self.address}",
            "Content-Type": "application/json",
            "X-Clipwatch-Token": self.live.token,
        }
        own |= headers or {}
        sent = {name: value for name, value in own.items() if value is not None}
        body = json.dumps({"pair": pair, "choice": choice}).encode()
        return ask(self.address, "/vote", "POST", body, sent)


@contextmanager
def served(state_dir: Path, *runs: str) -> Iterator[Served]:
    """Serve a log's page, made once, on a free port."""
    live = Live(state_dir, runs, lambda _: None)
    site = Site(live)
    server = WebServer(Address("127.0.0.1", 0), site.get, site.post)
    try:
        live.look()
        yield Served(live, server.address)
    finally:
        server.close()
