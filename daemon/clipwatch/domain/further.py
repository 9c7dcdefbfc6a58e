"""Events of scorers that score kept images later; a part of the log's vocabulary, see `events`."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.statistics import Summary


@dataclass(frozen=True, slots=True)
class ScorerAdded:
    """Kept images are scored by one more scorer, which has its name for good in this run.

    `digest` identifies its files, "" for one without any; `told` is its word on its own scale.
    """

    scorer: ScorerSpec
    digest: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class FurtherScore:
    """What a scorer that came later gave an image."""

    prompt_id: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class ImagesRescored:
    """A batch of kept images is scored by an added scorer and need not be again."""

    evaluation: str
    scorer: str
    scores: tuple[FurtherScore, ...]


@dataclass(frozen=True, slots=True)
class EvaluationRescored:
    """An added scorer has scored all images of a finished evaluation; `summary` is of those."""

    evaluation: str
    scorer: str
    summary: Summary
    environment: dict[str, str] = field(default_factory=dict)
