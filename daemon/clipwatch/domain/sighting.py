"""What one look at a checkpoint found: plain values, without the looking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import CheckpointKind, DiscardKind, Unit


@dataclass(frozen=True, slots=True)
class Weights:
    """What is to be loaded: `kind` and `component` as in CheckpointCompleted."""

    kind: CheckpointKind
    component: str
    files: tuple[WeightFile, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """The checkpoint can be evaluated."""

    weights: Weights
    digest: str


@dataclass(frozen=True, slots=True)
class Partial:
    """Something lacks that may still come."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """It will not be evaluated."""

    kind: DiscardKind
    reason: str


SAME = "it holds the same weights as"
"""How the reason begins for which a checkpoint is not evaluated again under another name."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A checkpoint as one look found it; `path` as in CheckpointFound."""

    step: int
    name: str
    path: Path
    verdict: Whole | Partial | Unusable
    unit: Unit = "step"
