"""What `scale.py` measures with: evaluators whose images are a sleep, a daemon that is timed."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from clipwatch.domain.events import EvaluationCompleted, EvaluationStarted, Event, ImageScore
from clipwatch.executors.base import EvaluatorHandle, Executor, Slot
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Reply, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.loop.run import Parts
from clipwatch.settings import Settings, load
from daemon import Plain, Silent, settings, write_checkpoint
from many_runs import Timed

Make = Callable[[Settings], Executor]


class Sleeper:
    """An evaluator whose images take their time and no processor.

    As the real one it makes a batch while the one before is written down, and never a second one.

    Args:
        receive: Takes its replies.
        each: Seconds of an image.
        batch: Images of a batch.
    """

    alive, silent_seconds = True, 0.0

    def __init__(self, receive: Callable[[Reply], None], each: float, batch: int) -> None:
        self._receive, self._each, self._batch = receive, each, batch
        self._asked: SimpleQueue[Evaluate | None] = SimpleQueue()
        self._kept = threading.Semaphore(0)
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Make the images in a thread."""
        self._asked.put(request)

    def kept(self, *, enough: bool = False) -> None:  # noqa: ARG002 - the interface
        """Let it report the next batch."""
        self._kept.release()

    def kill(self) -> None:
        """Take no further request."""
        self._asked.put(None)

    def _work(self) -> None:
        while (request := self._asked.get()) is not None:
            began, done = time.perf_counter(), set(request.done)
            made = [
                (it.id, n, s) for it, n, s in request.protocol.images() if (it.id, n) not in done
            ]
            images = [ImageScore(*it, {"": 0.3}) for it in made]
            self._receive(Loaded({}))
            for first in range(0, len(images), self._batch):
                part = tuple(images[first : first + self._batch])
                time.sleep(self._each * len(part))
                if first:
                    self._kept.acquire()
                self._receive(Scored(part))
            self._kept.acquire()
            self._receive(Finished(0, time.perf_counter() - began))


def sleeping(each: float, batch: int) -> Make:
    """Return what has such evaluators in the slots of the settings; arguments as of Sleeper."""

    def start(receive: Callable[[Reply], None]) -> EvaluatorHandle:
        return Sleeper(receive, each, batch)

    return lambda chosen: LocalExecutor(chosen, start)


class Clocked:
    """An executor, and how long each evaluation took there, from the loaded models to the end.

    Attributes:
        asked: The requests, in their order.
        took: Seconds of each.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.asked: list[Evaluate] = []
        self.took: list[float] = []
        self.slots, self.reads = executor.slots, executor.reads

    def same(self, _: Settings) -> Executor:
        """Return itself, whatever the settings."""
        return self

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start an evaluator that is listened to."""
        began = 0.0

        def hear(reply: Reply) -> None:
            nonlocal began
            if isinstance(reply, Loaded):
                began = time.perf_counter()
            if isinstance(reply, Finished):
                self.took.append(time.perf_counter() - began)
            receive(reply)

        return _Asked(self.executor.start(slot, hear), self.asked)


class _Asked:
    """An evaluator of which the requests are kept."""

    def __init__(self, evaluator: EvaluatorHandle, asked: list[Evaluate]) -> None:
        self._evaluator, self._asked = evaluator, asked
        self.kept, self.kill = evaluator.kept, evaluator.kill

    @property
    def alive(self) -> bool:
        return self._evaluator.alive

    @property
    def silent_seconds(self) -> float:
        return self._evaluator.silent_seconds

    def evaluate(self, request: Evaluate) -> None:
        self._asked.append(request)
        self._evaluator.evaluate(request)


def project(folder: Path, prompts: int, checkpoints: int, **own: object) -> Settings:
    """Write a training with its checkpoints; `own` are settings of the clipwatch object."""
    folder.mkdir(parents=True)
    settings(folder)
    (folder / "prompts.txt").write_text("".join(f"prompt {it}\n" for it in range(prompts)))
    config = json.loads((folder / "config.json").read_text())
    config["clipwatch"] |= own
    (folder / "config.json").write_text(json.dumps(config))
    for step in range(1, checkpoints + 1):
        made = write_checkpoint(folder / "output", step)
        made.rename(made.with_name(f"checkpoint-{step}"))
    return load(folder / "config.json", environ={}, cwd=folder)


def evaluated(runs: Sequence[Settings], make: Make) -> Timed:
    """Have a daemon evaluate all runs, which share a log, once; return it.

    Raises:
        SystemExit: Something failed: then its times say nothing.
    """
    supervisor = Timed(once=True)
    with Journal(log_file(runs[0].paths.state_dir)) as journal:
        parts = Parts(make_executor=make, judge=Plain())
        for chosen in runs:
            supervisor.watch(chosen, journal, Silent(), parts=parts)
        if code := supervisor.run():
            sys.exit(f"the daemon ended with {code}: nothing was measured")
    return supervisor


def times(chosen: Settings, kind: type[Event]) -> list[float]:
    """Return when events of a kind were written, in seconds."""
    with Journal(log_file(chosen.paths.state_dir), read_only=True) as journal:
        return [it.time.timestamp() for it in journal.read() if isinstance(it.event, kind)]


def spent(chosen: Settings) -> float:
    """Return the seconds from the first loaded model to the last result."""
    return max(times(chosen, EvaluationCompleted)) - min(times(chosen, EvaluationStarted))
