"""An executor of another package: whatever it raises or says is an answer, and ends no daemon."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from clipwatch.domain.losses import LossSets
from clipwatch.domain.questions import are_answered
from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.messages import (
    Evaluate,
    Failed,
    Finished,
    Loaded,
    Measured,
    Reply,
    Scored,
)

FAULTS: Final = (Exception, SystemExit)
"""What a call of others' code may end in; Ctrl-C is the user's."""

_REPLIES: Final = get_args(Reply)


class Guarded:
    """The executor, each of whose faults is told as what the protocol knows.

    Args:
        executor: Of another package.
        name: By which the settings call it.
    """

    def __init__(self, executor: Executor, name: str) -> None:
        self._executor = executor
        self._name = name

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return the slots; a Refusal instead of a fault."""
        try:
            found = self._executor.slots()
            if isinstance(found, Refusal):
                return found
            if found and all(isinstance(it, Slot) for it in found):
                return tuple(found)
            problem = f"the executor {self._name!r} tells no slots: {found!r:.200}"
        except FAULTS as error:
            problem = told(self._name, error)
        return Refusal(problem, "mend it, or the package that brings it")

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start an evaluator.

        Raises:
            OSError: None can be started, for whatever reason.
        """
        try:
            return _Handle(lambda say: self._executor.start(slot, say), receive, self._name)
        except OSError:
            raise
        except FAULTS as error:
            raise OSError(told(self._name, error)) from error

    def reads(self, path: Path) -> bool:
        """Whether an evaluator finds there what the daemon finds.

        Raises:
            OSError: It cannot tell.
        """
        try:
            return bool(self._executor.reads(path))
        except FAULTS as error:
            raise OSError(told(self._name, error)) from error


class _Handle:
    """The handle of an evaluator that fails, at the latest, when a call of it does."""

    def __init__(
        self,
        start: Callable[[Callable[[Reply], None]], EvaluatorHandle],
        receive: Callable[[Reply], None],
        name: str,
    ) -> None:
        self._receive = receive
        self._name = name
        self._broken = False
        self._asked: Asked | None = None
        self._handle = start(self._heard)

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        with suppress(*FAULTS):
            return not self._broken and self._handle.alive
        return False

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of it; for ever if it cannot tell."""
        with suppress(*FAULTS):
            return float(self._handle.silent_seconds)
        return float("inf")

    def evaluate(self, request: Evaluate) -> None:
        """Send a request; a fault is the answer to it."""
        self._asked = Asked(request)
        try:
            self._handle.evaluate(request)
        except FAULTS as error:
            self._fails(told(self._name, error))

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on; a fault is its next answer."""
        try:
            self._handle.kept(enough=enough)
        except FAULTS as error:
            self._fails(told(self._name, error))

    def kill(self) -> None:
        """End it, as far as it can be ended."""
        with suppress(*FAULTS):
            self._handle.kill()

    def _heard(self, reply: Reply) -> None:
        if self._broken:
            return
        misfit = self._asked.misfit(reply) if self._asked else "it speaks before it is asked"
        if misfit:
            self._fails(f"the executor {self._name!r} is out of order: {misfit}")
        else:
            self._receive(reply)

    def _fails(self, problem: str) -> None:
        self._broken = True
        self._receive(Failed("internal", problem))


class Asked:
    """What a request asks for, and which answers are none to it."""

    def __init__(self, request: Evaluate) -> None:
        done = frozenset(request.done)
        images = ((prompt.id, index, seed) for prompt, index, seed in request.protocol.images())
        self._left = {(id_, index): seed for id_, index, seed in images if (id_, index) not in done}
        self._scorers = {scorer.name for scorer in request.protocol.scorers}
        self._asked = {it.id: it.questions for it in request.protocol.prompts}
        self._losses = request.losses
        self._loaded = False

    def misfit(self, reply: Reply) -> str:
        """Return why a reply can be no answer now, "" for one that can; it counts as given."""
        match reply:
            case Loaded():
                self._loaded = True
            case Measured() | Scored() | Finished() if not self._loaded:
                return f"{type(reply).__name__} comes before Loaded"
            case Measured(protocol) if protocol and not _measured(reply, self._losses):
                return "its losses are not those that were asked for"
            case Scored(images):
                for it in images:
                    if self._left.pop((it.prompt_id, it.index), None) != it.seed:
                        return f"image {it.index} of prompt {it.prompt_id} was not asked for"
                    numbers = it.scores.values()
                    whole = it.scores.keys() == self._scorers and all(map(math.isfinite, numbers))
                    if not whole or not are_answered(
                        it.scores, it.answers, self._asked[it.prompt_id]
                    ):
                        return f"image {it.index} of prompt {it.prompt_id} has no score"
            case _ if not isinstance(reply, _REPLIES):
                return f"{reply!r:.200} is no reply"
        return ""


def _measured(said: Measured, asked: LossSets | None) -> bool:
    """Whether there is a loss for each image that was asked for, at each time."""
    plan = said.protocol
    if plan is None or asked is None or not (plan.times and asked.held):
        return False
    counts = len(said.held), len(plan.held), len(said.trained), len(plan.trained)
    rows = (*said.held, *said.trained)
    return counts == (*[len(asked.held)] * 2, *[len(asked.trained)] * 2) and all(
        len(row) == len(plan.times) and all(map(math.isfinite, row)) for row in rows
    )


def told(name: str, error: BaseException) -> str:
    """Say in one line what a fault of an executor was."""
    what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return f"the executor {name!r} fails ({what})"
