"""An evaluation in hand."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch import events as e
from clipwatch.protocol import EvaluationProtocol
from clipwatch.state import Checkpoint, Key


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated, and how far it is.

    Attributes:
        had: How many images earlier attempts made.
        scored: The images so far, kept only if they may be `enough` before all are made.
        enough: The mean is known as closely as was asked for.
    """

    id: str
    checkpoint: Checkpoint
    protocol: EvaluationProtocol
    had: int
    scored: tuple[e.ImageScore, ...] = ()
    enough: bool = False

    @property
    def key(self) -> Key:
        """Of the checkpoint."""
        return self.checkpoint.name, self.checkpoint.digest
