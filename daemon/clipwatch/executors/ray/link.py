"""The process that is connected to a cluster, as the daemon sees it: one for all of its runs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final, cast

import msgspec

from clipwatch.executors.base import Refusal, Slot
from clipwatch.executors.ray.messages import Lives, Look, Order, Over, Report, Said, Seen
from clipwatch.kit.decoding import decoder
from clipwatch.kit.environment import environment

PATIENCE_SECONDS: Final = 20.0
"""How long to wait for the slots: Ray is imported and connected, and each node tells its version.

The loop waits, too, so it is short; who asks again while that goes on waits a second.
"""

SHARE: Final = 0.1
"""The most of the loop's time that goes into asking a cluster that refuses, for all runs."""

REFUSED_SECONDS: Final = 25.0
"""A refusal is asked about again after that at the latest."""

_links: dict[str, Link] = {}


def link_to(address: str) -> Link:
    """Return the link to a cluster, a new one if there is none or it has ended.

    Raises:
        OSError: The system starts no process now.
    """
    known = _links.get(address)
    if known is None or not known.alive:
        known = _links[address] = Link(address)
    return known


class Link:
    """One life of the process. It ends with the daemon, or after a time without evaluators.

    Args:
        address: Of the cluster, as `ray_address`.

    Raises:
        OSError: The system starts no process now.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._takers: dict[int, Callable[[Said | Lives | Over | str], None]] = {}
        self._asked: dict[int, SimpleQueue[Seen]] = {}
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._refused: dict[str, tuple[Refusal, float]] = {}  # device → why, and until when
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "clipwatch.executors.ray.driver", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",  # Ray has its workers look for modules in the current folder
            env=_environment(),
            start_new_session=True,  # a terminal's Ctrl-C is the daemon's to handle
        )
        self._ended = False
        for work in (self._write, self._read):
            threading.Thread(target=work, name="ray", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it takes orders."""
        return not self._ended and self._child.poll() is None

    def slots(self, device: str) -> tuple[Slot, ...] | Refusal:
        """Return what the cluster has for us now, or why that is nothing, which may stand a while.

        There may be many runs, and a cluster that is away costs seconds each time.
        """
        known = self._refused.get(device)
        if known and time.monotonic() < known[1]:
            return known[0]
        began = time.monotonic()
        found = self._asked_for(device)
        if isinstance(found, Refusal):
            now = time.monotonic()
            pause = min(REFUSED_SECONDS, (now - began) * (1 / SHARE - 1))
            self._refused[device] = found, now + pause
        return found

    def _asked_for(self, device: str) -> tuple[Slot, ...] | Refusal:
        number, answer = next(self._numbers), SimpleQueue[Seen]()
        with self._lock:
            patience = 1.0 if self._asked else PATIENCE_SECONDS
            self._asked[number] = answer
        self.send(Look(number, device))
        if self._ended:  # perhaps before it knew that we wait
            answer.put(self._lost(number))
        try:
            seen = answer.get(timeout=patience)
        except Empty:
            return Refusal(
                f"the Ray cluster at {self._address} does not answer yet",
                "see `ray status` there; it is asked again",
            )
        return Refusal(seen.problem, seen.fix) if seen.problem else seen.slots

    def add(self, take: Callable[[Said | Lives | Over | str], None]) -> int:
        """Return the number of a new evaluator.

        Args:
            take: Gets what is said of it; a text when all is over, from a thread of the link.
        """
        number = next(self._numbers)
        with self._lock:
            self._takers[number] = take
        return number

    def send(self, order: Order) -> None:
        """Send an order; it returns at once."""
        self._orders.put(order)

    def close(self) -> None:
        """End the process, in order; the actors end with it."""
        self._orders.put(None)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(PATIENCE_SECONDS)
        if self._child.poll() is None:
            self._child.kill()

    def _write(self) -> None:
        with suppress(BrokenPipeError), cast("BinaryIO", self._child.stdin) as pipe:
            while order := self._orders.get():
                pipe.write(msgspec.json.encode(order) + b"\n")
                pipe.flush()

    def _read(self) -> None:
        reports: msgspec.json.Decoder[Report] = decoder(Report)
        with cast("BinaryIO", self._child.stdout) as pipe, suppress(msgspec.MsgspecError):
            for line in pipe:  # half a line where it was killed
                self._hear(reports.decode(line))
        self._ended = True
        self._orders.put(None)
        self._child.wait()
        with self._lock:
            takers, asked = tuple(self._takers.values()), dict(self._asked)
        for number, answer in asked.items():
            answer.put(self._lost(number))
        for take in takers:
            take(f"the connection to the Ray cluster at {self._address} was lost")

    def _hear(self, report: Report) -> None:
        if isinstance(report, Seen):
            with self._lock:
                answer = self._asked.pop(report.number, None)
            if answer is not None:
                answer.put(report)
            return
        with self._lock:
            take = self._takers.get(report.evaluator)
            if isinstance(report, Over):
                self._takers.pop(report.evaluator, None)
        if take is not None:
            take(report)

    def _lost(self, number: int) -> Seen:
        return Seen(
            number,
            problem=f"the connection to the Ray cluster at {self._address} was lost",
            fix="see `ray status` there; it is connected again",
        )


def _environment() -> dict[str, str]:
    """Return what the link needs: no secrets but Ray's own."""
    rays = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    return environment(os.environ, os.cpu_count() or 1) | rays
