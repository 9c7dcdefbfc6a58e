"""An evaluation in hand."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Checkpoint, Key
from clipwatch.statistics.sequential import Followed


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated, and how far it is.

    Attributes:
        had: How many images earlier attempts made.
        place: Where the checkpoint is read: its own folder, or where it is kept.
        followed: Its mean so far, only if fewer than all images may be enough.
    """

    id: str
    checkpoint: Checkpoint
    protocol: EvaluationProtocol
    had: int
    place: str
    followed: Followed | None = None

    @property
    def enough(self) -> bool:
        """Whether the mean is known as closely as was asked for."""
        return self.followed is not None and self.followed.enough

    def told(self, reason: str) -> str:
        """Say it of the checkpoint as the user knows it, not of where it is kept."""
        return reason.replace(self.place, self.checkpoint.path)

    @property
    def key(self) -> Key:
        """Of the checkpoint."""
        return self.checkpoint.name, self.checkpoint.digest
