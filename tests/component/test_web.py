"""What both servers bear, whatever clients send: the health page's and that of `serve`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from clipwatch.service import web
from clipwatch.service.health.probes import LoopState
from clipwatch.service.health.server import HealthServer
from clipwatch.settings.values import Address
from real_world import until
from report_kit import hostile_run
from web_kit import get, served


@dataclass(frozen=True)
class Server:
    """One that runs, and a page of it."""

    address: Address
    path: str

    def answers(self) -> bool:
        """Whether it gives its page."""
        return get(self.address, self.path)[0] == 200


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a log with a small run."""
    return hostile_run(tmp_path_factory.mktemp("state"), 4, (0, 100), side=8).folder


@pytest.fixture(params=["health", "serve"])
def server(request: pytest.FixtureRequest, state_dir: Path) -> Iterator[Server]:
    """Run each of them."""
    if request.param == "serve":
        with served(state_dir) as page:
            yield Server(page.address, "/")
    else:
        health = HealthServer(Address("127.0.0.1", 0), lambda: [LoopState()])
        yield Server(health.address, "/healthz")
        health.close()


def test_a_client_that_says_nothing_holds_nobody_up(server: Server) -> None:
    """Others are answered meanwhile."""
    with socket.create_connection((server.address.host, server.address.port)) as mute:
        mute.send(b"GET /heal")
        assert server.answers()


def test_a_client_that_sends_byte_by_byte_is_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is that of the whole request; each byte of it is no new chance."""
    monkeypatch.setattr(web, "PATIENCE_SECONDS", 0.3)
    place = server.address.host, server.address.port
    with socket.create_connection(place, timeout=60) as slow:
        until(lambda: not takes_a_byte(slow))


def takes_a_byte(client: socket.socket) -> bool:
    """Whether somebody still listens."""
    try:
        client.send(b"G")
    except OSError:
        return False
    return True


def test_crowds_leave_room_for_a_probe(server: Server) -> None:
    """Of hundreds of clients that say nothing few are kept; who asks is answered."""
    before = threading.active_count()  # earlier tests may have left some
    place = server.address.host, server.address.port
    with ExitStack() as crowd:
        for number in range(300):
            crowd.enter_context(socket.create_connection(place))
            if number % 50 == 0:
                assert server.answers()
        assert server.answers()
        until(lambda: len(connections(server.address)) <= web.MOST_CLIENTS)
        until(lambda: threading.active_count() - before <= 3 * web.MOST_CLIENTS)


def connections(address: Address) -> list[Any]:
    """Return what this process holds open at the server's end."""
    return [
        it
        for it in psutil.Process().net_connections("tcp")
        if it.laddr == (address.host, address.port) and it.status in ("ESTABLISHED", "CLOSE_WAIT")
    ]


def test_a_request_has_an_end(server: Server) -> None:
    """Headers without end are read for some kilobytes."""
    place = server.address.host, server.address.port
    with socket.create_connection(place, timeout=60) as client:
        client.send(f"GET {server.path} HTTP/1.1\r\n".encode())
        with suppress(OSError):
            for number in range(100_000):
                client.send(b"X-%d: %s\r\n" % (number, b"x" * 100))
        with suppress(ConnectionResetError):
            assert b"200 OK" not in client.recv(1000)
        assert server.answers()


@pytest.mark.parametrize(
    ("host", "code"),
    [
        *(("localhost:9464", 200), ("127.0.0.1:9464", 200), ("[::1]:9464", 200), ("", 200)),
        *(("evil.example:9464", 421), ("localhost.evil.example", 421), ("10.0.0.1", 421)),
    ],
)
def test_pages_of_this_machine_are_not_those_of_the_web(
    server: Server, host: str, code: int
) -> None:
    """A name of somebody's that leads to loopback gets none of them."""
    asked = HTTPConnection(server.address.host, server.address.port, timeout=60)
    asked.putrequest("GET", server.path, skip_host=True)
    if host:
        asked.putheader("Host", host)
    asked.endheaders()
    assert asked.getresponse().status == code
    asked.close()
