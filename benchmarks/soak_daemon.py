"""The daemon of the soak: clipwatch's own, but for models and the clock.

python benchmarks/soak_daemon.py FOLDER SPEED
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from clipwatch.cli.watching import obey_signals
from clipwatch.domain.events import ImageScore
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.kit.processes import return_memory
from clipwatch.loop.console import Console
from clipwatch.loop.inbox import Letter
from clipwatch.loop.recognising import recognise
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Supervisor
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings, load

TURN: Final = struct.Struct("d")
"""A turn of the loop in the record of them: seconds of the processor."""

FAILS_ONCE, FAILS_ALWAYS = 37, 101
"""Every so many checkpoints an evaluation runs out of memory once, or ends each time."""


def _png() -> bytes:
    """Return an image of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\0\x80"))
    return b"\x89PNG\r\n\x1a\n" + head + pixel + chunk(b"IEND", b"")


class Evaluator:
    """Answers at once: half of the images, then the rest, or a failure."""

    alive, silent_seconds = True, 0.0

    def __init__(self, receive: Callable[[Reply], None]) -> None:
        self._receive = receive
        self._asked: SimpleQueue[Evaluate | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Answer in a thread, as a process does."""
        self._asked.put(request)

    def kept(self, *, enough: bool = False) -> None:
        """Go on, as it does anyway."""

    def kill(self) -> None:
        """Say nothing any more."""
        self.alive = False
        self._receive = lambda _: None
        self._asked.put(None)

    def _work(self) -> None:
        while (request := self._asked.get()) is not None:
            for reply in _answers(request):
                self._receive(reply)


def _answers(request: Evaluate) -> list[Reply]:
    number, end = _number(request), Finished(0, 60.0, {"generate": 50.0, "score": 5.0})
    failed: Failed | None = None
    if number % FAILS_ALWAYS == 0:
        failed = Failed("internal", "made up: its process ended")
    elif number % FAILS_ONCE == 0 and not request.done:
        failed = Failed("memory", "made up: no memory left")
    had = set(request.done)
    todo = [task for task in request.protocol.images() if (task[0].id, task[1]) not in had]
    folder = Path(request.images_dir or "")
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for prompt, index, seed in todo[: len(todo) // 2] if failed else todo:
        (folder / f"{prompt.id}-{index}.png").write_bytes(PNG)
        score = 0.2 + zlib.crc32(f"{number} {prompt.id} {seed}".encode()) % 1000 / 1e4
        images.append(ImageScore(prompt.id, index, seed, {"": score}, f"{prompt.id}-{index}.png"))
    return [Loaded({"device": "none"}), Scored(tuple(images)), failed or end]


def _number(request: Evaluate) -> int:
    """Return which of the checkpoints it is, counted from 1."""
    name = Path(request.images_dir or "").parents[1].name  # a copy of it has another path
    return int(name.rpartition("-")[2]) // 100


PNG = _png()


class Timed(Supervisor):
    """Notes what each turn takes of the processor, the dispatch of its messages included."""

    def __init__(self, record: Path) -> None:
        super().__init__()
        self._record = record.open("ab", buffering=0)
        self._began = time.thread_time()

    def _receive(self) -> list[Letter]:
        self._record.write(TURN.pack(time.thread_time() - self._began))
        letters = super()._receive()
        self._began = time.thread_time()
        return letters


def _executor(settings: Settings) -> LocalExecutor:
    return LocalExecutor(settings, Evaluator)


def main(folder: Path, speed: float) -> int:
    """Watch the run in a folder, by a clock that goes so many times as fast."""
    began, real = datetime.now(UTC), time.monotonic()
    return_memory()

    def clock() -> datetime:
        return began + timedelta(seconds=speed * (time.monotonic() - real))

    reread = partial(load, folder / "config.json", environ=dict(os.environ), cwd=folder)
    settings = reread()
    state = settings.paths.state_dir
    name = recognise(log_file(state), settings.paths.output_dir).name
    with exclusive(state, name), Journal(log_file(state)) as journal:
        supervisor = Timed(folder / "turns")
        parts = Parts(clock=clock, make_executor=_executor)
        supervisor.watch(settings, journal, Console(), name=name, reread=reread, parts=parts)
        obey_signals(supervisor)
        return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
