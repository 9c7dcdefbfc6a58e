"""What systemd hears of a real daemon, on a real socket."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from clipwatch.service.sd_notify import ServiceManager
from real_world import command, environment, write_config
from real_world import until as wait_until


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[socket.socket, str]]:
    """Listen as systemd does; return the socket and its name in NOTIFY_SOCKET."""
    name = str(tmp_path_factory.mktemp("run") / "notify")
    if request.param == "abstract":
        name = f"@clipwatch-{uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0") if name[0] == "@" else name)
        listening.settimeout(60)
        yield listening, name


def until(listening: socket.socket, wanted: str) -> list[str]:
    """Return what was told, up to a message that begins with `wanted`."""
    told: list[str] = []
    while not told or not told[-1].startswith(wanted):
        told.append(listening.recv(4096).decode())
    return told


@contextmanager
def started(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a daemon that must show a sign of life each second."""
    environ = environment() | {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"}
    process = subprocess.Popen(command("start"), cwd=folder, env=environ, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_service_tells_its_whole_life(folder: Path, manager: tuple[socket.socket, str]) -> None:
    """Ready after the first look, alive all the time, reloading and ready again, stopping."""
    listening, name = manager
    with started(folder, name) as process:
        assert until(listening, "READY=1") == ["READY=1"]
        told = until(listening, "WATCHDOG=1") + until(listening, "WATCHDOG=1")
        assert [line for line in told if line.startswith("STATUS=no checkpoint seen in ")]
        write_config(folder, drain_seconds=7)
        process.send_signal(signal.SIGHUP)
        reloading = until(listening, "RELOADING=1")[-1]
        assert reloading.partition("MONOTONIC_USEC=")[2].isdecimal()
        until(listening, "READY=1")
        process.terminate()
        stopping = until(listening, "STOPPING=1")[-1]
        assert stopping == "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000"  # nothing to drain
        assert process.wait(60) == 0


@pytest.mark.thorough(but=1)
def test_a_loop_that_stands_still_is_not_alive(
    folder: Path, manager: tuple[socket.socket, str]
) -> None:
    """The sign of life comes from the loop itself: when it stops, so does the sign."""
    listening, name = manager
    with started(folder, name) as process:
        until(listening, "WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        stopped = psutil.Process(process.pid)
        wait_until(lambda: stopped.status() == psutil.STATUS_STOPPED)
        listening.setblocking(False)
        with suppress(BlockingIOError):
            while listening.recv(4096):  # what it had told before
                pass
        listening.settimeout(1.5)
        with pytest.raises(TimeoutError):
            listening.recv(4096)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_service_manager_nothing_happens(environ: dict[str, str]) -> None:
    """In a terminal, or when the manager is gone, telling is no error and wakes nobody."""
    service = ServiceManager(environ)
    service.ready()
    service.alive("a line")
    assert service.patience == float("inf")
