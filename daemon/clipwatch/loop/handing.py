"""Evaluators that go from run to run: one that is idle is handed to whoever has its slot next.

To start one costs the import of torch, and all models are loaded anew. It does not know of runs:
each request says all that it needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Finished, Reply


class _Post:
    """Brings what an evaluator says to the run that has it; also tells whether it is idle."""

    def __init__(self, receive: Callable[[Reply], None]) -> None:
        self.idle = False
        self._receive = receive
        self._lock = threading.Lock()

    def __call__(self, reply: Reply) -> None:
        with self._lock:  # nobody hears anything any more once `redirect` has returned
            self.idle = isinstance(reply, Finished)
            self._receive(reply)

    def redirect(self, receive: Callable[[Reply], None]) -> None:
        with self._lock:
            self._receive = receive


@dataclass(frozen=True, slots=True)
class _Idle:
    """An evaluator that nobody has, what it was started by, and who brings its words."""

    evaluator: EvaluatorHandle
    kin: object
    post: _Post


@dataclass(frozen=True, slots=True)
class Idlers:
    """The evaluators between two runs, at most one for each slot.

    Attributes:
        wanted: Whether a run waits for a slot, by its name; else its evaluator ends.
    """

    wanted: Callable[[str], bool]
    _idle: dict[str, _Idle] = field(default_factory=dict)

    def of(self, executor: Executor) -> Executor:
        """Return an executor whose idle evaluators are handed on, where it is this machine."""
        if isinstance(executor, LocalExecutor):
            return _Handing(executor, executor.kin, self)
        return executor

    def leave(self, slot: str, idle: _Idle) -> None:
        """Keep an evaluator for who has the slot next."""
        idle.post.redirect(lambda _: None)
        self._idle[slot] = idle

    def take(self, slot: str, kin: object) -> _Idle | None:
        """Return the evaluator in a slot, if there is one of this kin; one of another is ended."""
        idle = self._idle.pop(slot, None)
        if idle is None or (idle.kin == kin and idle.evaluator.alive):
            return idle
        idle.evaluator.kill()
        return None

    def close(self) -> None:
        """End all of them."""
        for idle in self._idle.values():
            idle.evaluator.kill()
        self._idle.clear()


class _Handle:
    """An evaluator as one run has it."""

    def __init__(self, slot: str, idle: _Idle, idlers: Idlers) -> None:
        self._slot, self._idlers = slot, idlers
        self._all = idle
        self._evaluator = idle.evaluator
        self._left = False

    @property
    def alive(self) -> bool:
        return not self._left and self._evaluator.alive

    @property
    def silent_seconds(self) -> float:
        return self._evaluator.silent_seconds

    def evaluate(self, request: Evaluate) -> None:
        self._all.post.idle = False
        self._evaluator.evaluate(request)

    def kept(self, *, enough: bool = False) -> None:
        self._evaluator.kept(enough=enough)

    def kill(self) -> None:
        """End it, or leave it to the run that waits for its slot if it has nothing in hand."""
        if self._left:
            return
        self._left = True
        if self._all.post.idle and self._evaluator.alive and self._idlers.wanted(self._slot):
            self._idlers.leave(self._slot, self._all)
        else:
            self._evaluator.kill()


@dataclass(frozen=True, slots=True)
class _Handing:
    """An executor that takes over what another run left, if it would start the same."""

    executor: Executor
    kin: object
    idlers: Idlers

    def slots(self) -> tuple[Slot, ...] | Refusal:
        return self.executor.slots()

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        idle = self.idlers.take(slot.name, self.kin)
        if idle is None:
            post = _Post(receive)
            idle = _Idle(self.executor.start(slot, post), self.kin, post)
        else:
            idle.post.redirect(receive)
        return _Handle(slot.name, idle, self.idlers)

    def reads(self, path: Path) -> bool:
        return self.executor.reads(path)
