"""An executor of several slots, in memory, whose evaluators do what a test says of each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clipwatch.domain.events import ImageScore, ImagesScored
from clipwatch.executors.base import EvaluatorHandle, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from world import World, checkpoint

Replies = Iterable[Reply | None]
Script = Callable[[str, Evaluate], Replies | None]
PROMPTS = [f"prompt {number}" for number in range(32)]


class Worker:
    """An evaluator that waits for `kept` after each batch, as the real one does.

    A script may be a generator, and wait for whatever it wants between two replies. With None in
    their place the evaluator shows no sign of life from there on.
    """

    def __init__(
        self, receive: Callable[[Reply], None], script: Callable[[Evaluate], Replies]
    ) -> None:
        self._receive = receive
        self._script = script
        self._requests: queue.SimpleQueue[Evaluate | None] = queue.SimpleQueue()
        self._kept: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.alive = True
        self.silent_seconds = 0.0
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Queue the request."""
        self._requests.put(request)

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on."""
        self._kept.put(enough)

    def kill(self) -> None:
        """End the thread; nothing is said from here on."""
        with self._lock:
            self.alive = False
        self._requests.put(None)
        self._kept.put(True)

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            for said in self._script(request):
                if said is None:
                    self.silent_seconds = 10**6
                elif not self._say(said):
                    return
                elif isinstance(said, Scored) and self._kept.get():
                    self._say(Finished(0, 1.0))
                    break

    def _say(self, reply: Reply) -> bool:
        with self._lock:
            if self.alive:
                self._receive(reply)
            if isinstance(reply, Failed) and reply.kind == "killed":
                self.alive = False
            return self.alive


class Places:
    """An executor of slots by their names; `script` gets a slot's name and the request."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.script: Script = lambda *_: None
        self.asked: list[tuple[str, Evaluate]] = []
        self.started: list[tuple[str, Worker]] = []
        self.looked = 0

    def slots(self) -> tuple[Slot, ...]:
        """Return them in their order."""
        self.looked += 1
        return tuple(Slot(it, "cpu", title=it) for it in self.names)

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start a worker, if the one before has ended."""
        assert not any(worker.alive for name, worker in self.started if name == slot.name)

        def script(request: Evaluate) -> Replies:
            self.asked.append((slot.name, request))
            own = self.script(slot.name, request)
            return batches(request) if own is None else own

        worker = Worker(receive, script)
        self.started.append((slot.name, worker))
        return worker

    def reads(self, _: Path) -> bool:
        """All of it."""
        return True

    @property
    def steps(self) -> list[tuple[str, int]]:
        """Which slot was asked for which checkpoint, in order; 0 is the base model."""
        return [(name, step_of(it)) for name, it in self.asked]


def step_of(request: Evaluate) -> int:
    """Return the step of the checkpoint that is asked for, 0 for the base model."""
    return 0 if request.kind == "base" else int(Path(request.path).name.rpartition("-")[2])


def wanted(request: Evaluate) -> list[tuple[str, int]]:
    """Return the images that a request asks for."""
    done = set(request.done)
    return [(it.id, n) for it, n, _ in request.protocol.images() if (it.id, n) not in done]


def batches(
    request: Evaluate, size: int = 4, *, device: str = "script", seconds: float = 1.0
) -> Iterator[Reply]:
    """Yield the replies of an evaluation that goes well."""
    seeds = {(it.id, n): seed for it, n, seed in request.protocol.images()}
    images = wanted(request)
    yield Loaded({"device": device})
    for at in range(0, len(images), size):
        yield Scored(
            tuple(
                ImageScore(*it, seeds[it], {"": seeds[it] % 1000 / 1000}, f"{it[0]}-{it[1]}.png")
                for it in images[at : at + size]
            )
        )
    yield Finished(0, seconds, {"load": seconds / 4})


def world_of(folder: Path, places: Places, *steps: int, **changes: object) -> World:
    """Return a world of 32 prompts that may use all of these slots, with some checkpoints."""
    (folder / "many.txt").write_text("\n".join(PROMPTS))
    world = World(folder, prompts="many.txt", slots=len(places.names), **changes)
    world.executor = lambda _: places
    for step in steps:
        checkpoint(world.output, step, step)
    return world


def scored(world: World) -> list[tuple[str, int]]:
    """Return all images that the log tells of, in order."""
    events = (it.event for it in world.logged)
    return [
        (image.prompt_id, image.index)
        for event in events
        if isinstance(event, ImagesScored)
        for image in event.images
    ]
