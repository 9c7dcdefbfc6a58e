"""An evaluation in hand."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Checkpoint, CheckpointKey
from clipwatch.executors.base import Slot


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated, and how far it is.

    Attributes:
        had: How many images earlier attempts made.
        place: Where the checkpoint is read: its own folder, or where it is kept.
        slot: Where it is evaluated.
    """

    id: str
    checkpoint: Checkpoint
    protocol: EvaluationProtocol
    had: int
    place: str
    slot: Slot

    def told(self, reason: str) -> str:
        """Say it of the checkpoint as the user knows it, not of where it is kept."""
        return reason.replace(self.place, self.checkpoint.path)

    @property
    def key(self) -> CheckpointKey:
        """Of the checkpoint."""
        return self.checkpoint.name, self.checkpoint.digest
