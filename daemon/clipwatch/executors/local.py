"""This machine: each GPU that may be used is a slot, else each device that is named is one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from clipwatch.executors.base import EvaluatorHandle, Refusal, Slot
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.messages import Reply
from clipwatch.gpus import usable_gpus
from clipwatch.settings import Settings


class LocalExecutor:
    """Evaluates in child processes, on a GPU that nobody else uses unless it is shared.

    Args:
        settings: Of the run: its devices, and what tells the training's processes.
        evaluator: Starts an evaluator that gives its replies to the function it is passed; a child
            process with its share of the processor by default.
    """

    def __init__(
        self,
        settings: Settings,
        evaluator: Callable[[Callable[[Reply], None]], EvaluatorHandle] | None = None,
    ) -> None:
        self._settings = settings
        self._given = evaluator
        beside = settings.compute.most_slots or 1
        self._evaluator = evaluator or partial(EvaluatorProcess, beside=beside)

    @property
    def kin(self) -> object:
        """Equal to that of others whose evaluators may take the place of ours."""
        return self._given, self._settings.compute  # two of functools' partials are never equal

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return the GPUs that may be used, or the devices as named where none is known."""
        found = usable_gpus(self._settings)
        if isinstance(found, Refusal):
            return found
        if not found:
            return _named(self._settings.compute.devices)
        return tuple(
            Slot(gpu.uuid, "cuda", gpu.uuid, str(gpu), gpu.free_bytes or None) for gpu in found
        )

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:  # noqa: ARG002 - each request names its GPU
        """Start a child process, which goes to its slot with the first request.

        Raises:
            OSError: The system starts no process now.
        """
        return self._evaluator(receive)

    def reads(self, path: Path) -> bool:  # noqa: ARG002 - the interface
        """All that is here is there."""
        return True


def _named(devices: tuple[str, ...]) -> tuple[Slot, ...]:
    """Return a slot for each device; of several each has a title, those of the processor a number.

    The first is the same slot whether others stand beside it or not.
    """
    memory = psutil.virtual_memory().available // len(devices)
    if len(devices) == 1:
        return (Slot(devices[0], devices[0], free_bytes=memory),)
    if devices[0] != "cpu":
        return tuple(Slot(it, it, title=it, free_bytes=memory) for it in devices)
    numbers = range(1, len(devices) + 1)
    return tuple(
        Slot("cpu" if it == 1 else f"cpu {it}", "cpu", title=f"cpu {it}", free_bytes=memory)
        for it in numbers
    )
