"""This machine: each GPU that may be used is a slot, else its processor is one."""

from __future__ import annotations

from collections.abc import Callable
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
        settings: Of the run: its device, and what tells the training's processes.
        evaluator: Starts an evaluator that gives its replies to the function it is passed.
    """

    def __init__(
        self,
        settings: Settings,
        evaluator: Callable[[Callable[[Reply], None]], EvaluatorHandle] = EvaluatorProcess,
    ) -> None:
        self._settings = settings
        self._evaluator = evaluator

    @property
    def kin(self) -> object:
        """Equal to that of others whose evaluators may take the place of ours."""
        return self._evaluator, self._settings.compute

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return the GPUs that may be used, or the device as it is named where none is known."""
        found = usable_gpus(self._settings)
        if isinstance(found, Refusal):
            return found
        if not found:
            device, memory = self._settings.compute.device, psutil.virtual_memory().available
            return (Slot(device, device, free_bytes=memory),)
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
