"""The link to a Ray cluster: orders from stdin, reports to stdout, one JSON object a line.

It alone imports Ray. It never starts a cluster, and has nothing reserved in it but an actor for
each evaluator, which it ends when nothing was asked of it for a while. If it dies, Ray ends them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import msgspec
import ray

from clipwatch.executors.ray.evaluators import Evaluators
from clipwatch.executors.ray.messages import Ask, End, Go, Look, Order, Report, Seen, Start
from clipwatch.executors.ray.nodes import Nodes
from clipwatch.kit.processes import take_pipes

IDLE_SECONDS: Final = 120.0
"""How long the link lives without evaluators and orders: it has some 100 MB of memory."""

_FIX: Final = "start one with `ray start --head`, or set ray_address to where one is"

_CONNECT_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 30.0
"""How long Ray may try to join a cluster: one that died without a word it would try for minutes."""

_END_SECONDS: Final = 15.0

Say = Callable[[Report], None]

_ADDRESS: Final = re.compile(r"(?:ray://)?\[?([^\]]+?)\]?:(\d+)")


def main(address: str) -> int:
    """Serve until stdin ends, or nobody needs us; return 0."""
    requests, reports = take_pipes()
    lock = threading.Lock()
    orders: SimpleQueue[Order | None] = SimpleQueue()

    def say(report: Report) -> None:
        with lock, suppress(BrokenPipeError):
            reports.write(msgspec.json.encode(report) + b"\n")
            reports.flush()

    def read() -> None:
        for line in requests:
            orders.put(msgspec.json.decode(line, type=Order))
        orders.put(None)
        _in(_END_SECONDS, partial(os._exit, 0))  # whatever Ray waits for

    threading.Thread(target=read, name="orders", daemon=True).start()
    first = _joined(address, orders, say)
    if first is None:
        return 0
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),  # Ray prints pages of any node's last words
        redirect_stderr(nowhere),
    ):
        asyncio.run(_serve(first, orders, say))
    _in(_END_SECONDS, partial(os._exit, 0))
    ray.shutdown()
    return 0


def _joined(address: str, orders: SimpleQueue[Order | None], say: Say) -> Look | None:
    """Answer until there is a cluster; return the question that comes then, None at the end."""
    while order := orders.get():
        if isinstance(order, Look):
            hung = Seen(order.number, problem=f"the Ray cluster at {address} is silent", fix=_FIX)
            watch = _in(_JOIN_SECONDS, partial(_give_up, say, hung))
            problem = _connect(address)
            watch.cancel()
            if not problem:
                return order
            say(Seen(order.number, problem=problem, fix=_FIX))
    return None


def _give_up(say: Say, seen: Seen) -> None:
    """End amid a call of Ray that does not."""
    say(seen)
    os._exit(1)


def _in(seconds: float, what: Callable[[], object]) -> threading.Timer:
    """Have something done later, if we are still there."""
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()
    return timer


def _connect(address: str) -> str:
    """Connect to the cluster; return why not, "" if it is done."""
    if (place := _ADDRESS.fullmatch(address)) and (why := _unheard(place[1], int(place[2]))):
        return f"no Ray cluster answers at {address} ({why})"
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # noqa: BLE001 - Ray has many of its own; each is a reason
        if address == "auto" and isinstance(error, ConnectionError):
            return "no Ray cluster runs on this machine (ray_address: auto)"
        return f"the Ray cluster at {address} cannot be joined ({_line(error)})"
    return ""


def _unheard(host: str, port: int) -> str:
    """Return why nobody listens there, "" if somebody does; Ray would try for a minute and die."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _serve(first: Order, orders: SimpleQueue[Order | None], say: Say) -> None:
    orders.put(first)
    evaluators = Evaluators(say)
    nodes = Nodes()
    looks: set[asyncio.Task[None]] = set()

    async def look(order: Look) -> None:
        say(await nodes.seen(order, evaluators.places))

    while True:
        try:
            order = await asyncio.to_thread(orders.get, timeout=IDLE_SECONDS)
        except Empty:
            if evaluators.places:
                continue
            return
        match order:
            case None:
                await evaluators.close()
                return
            case Look():
                looks.add(task := asyncio.create_task(look(order)))
                task.add_done_callback(looks.discard)
            case Start():
                evaluators.start(order)
            case Ask(number, request):
                evaluators.ask(number, request)
            case Go(number, enough):
                evaluators.kept(number, enough)
            case End(number):
                evaluators.end(number)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
