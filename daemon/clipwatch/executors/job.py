"""An evaluation in hand."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.queue import Pending
from clipwatch.domain.state import Checkpoint, CheckpointKey


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated, and how far it is.

    Attributes:
        work: The checkpoint, and the digest under which its results stand.
        protocol: All of it.
        title: Of both, for a person.
        had: How many images earlier attempts made.
        place: Where the checkpoint is read: its own folder, or where it is kept.
    """

    work: Pending
    protocol: EvaluationProtocol
    title: str
    had: int
    place: str

    def told(self, reason: str) -> str:
        """Say it of the checkpoint as the user knows it, not of where it is kept."""
        return reason.replace(self.place, self.checkpoint.path)

    @property
    def id(self) -> str:
        """The evaluation's."""
        return self.work.id

    @property
    def checkpoint(self) -> Checkpoint:
        """What is evaluated."""
        return self.work.checkpoint

    @property
    def key(self) -> CheckpointKey:
        """Of the checkpoint."""
        return self.checkpoint.name, self.checkpoint.digest
