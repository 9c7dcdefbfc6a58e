"""The seam between the loop and the machines: where evaluations run, and how one is handed over.

An executor is one file and one entry point of the group `clipwatch.executors`: a callable that
takes the Settings and returns an Executor; the setting `executor` names it. `local` is this
machine, `ray` a cluster: there too each evaluator is the child process of `child`, and only what is
said to it and by it travels. A run takes as many slots as there is work for and its setting `slots`
allows, all by default: several checkpoints at once, or the images of one shared out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clipwatch.executors.messages import Evaluate, Reply
from clipwatch.gpus import Refusal

__all__ = ["EvaluatorHandle", "Executor", "Refusal", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one evaluator.

    Attributes:
        name: Tells it from all others that an executor has, today and tomorrow.
        device: What the evaluator is to compute on, as in Evaluate.
        gpu: UUID of the only GPU that it may see, "" for those that its environment shows.
        title: What a person calls it, "" where that says nothing new.
        free_bytes: Memory there that the models can have; None where nobody knows.
    """

    name: str
    device: str
    gpu: str = ""
    title: str = ""
    free_bytes: int | None = None


class EvaluatorHandle(Protocol):
    """An evaluator that can be handed requests, wherever it runs."""

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""

    @property
    def silent_seconds(self) -> float:
        """How long it has shown no sign of life over the request in hand; 0.0 without one."""

    def evaluate(self, request: Evaluate) -> None:
        """Send a request; only one may be under way. It returns at once."""

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on: the images that it reported last are written down; `enough` for no more."""

    def kill(self) -> None:
        """End it now, if it still runs; what it has not reported is lost and done again."""


class Executor(Protocol):
    """Where evaluations run; made anew when the settings change. Used from one thread."""

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return what may be used now, the best first; or why nothing may, and what to do.

        A slot in which an evaluator of ours runs is among them. It may take some seconds, and is
        asked before an evaluator is started, and twice a minute while one waits to be, or while
        there is work for more than there are slots.
        """

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start an evaluator.

        Args:
            slot: One that `slots` told last.
            receive: Takes each reply, from any thread. One that ends in the middle of a request is
                reported as Failed. Nothing is reported any more once `kill` has returned.

        Raises:
            OSError: None can be started now; ENOSPC, EDQUOT, ENOMEM and EAGAIN tell what lacks.
        """

    def reads(self, path: Path) -> bool:
        """Whether an evaluator finds there what the daemon finds under this absolute path."""
