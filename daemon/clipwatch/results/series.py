"""A series: all results of one run under one protocol, as trackers and tables take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from clipwatch.domain.decided import Decision, Estimate
from clipwatch.domain.events import AdviceGiven, ImageScore
from clipwatch.domain.kinds import Unit
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.questions import Answered
from clipwatch.statistics import Comparison, Summary
from clipwatch.statistics.scale import UNKNOWN, Scale

# what an adapter needs to know, it finds here
__all__ = [
    "AdviceGiven",
    "Answered",
    "Comparison",
    "Decision",
    "Estimate",
    "EvaluationProtocol",
    "ImageScore",
    "Result",
    "Series",
    "Summary",
    "highest",
]


@dataclass(frozen=True, slots=True)
class Result:
    """One finished evaluation as a tracker shows it.

    Attributes:
        seq: Its place among the results of its series: 0, 1, 2, ... without gaps. One whose weights
            came back in the place of others is last again; a result is known by `evaluation`.
        step: The trainer's global step, its epoch, or a file's place (see `Series.unit`). Several
            results may share one; the highest `seq` stands.
        evaluation: Its identity in the log.
        checkpoint: The checkpoint's name.
        scores: Those of each scorer, summarised, by its name; "" is the one that decides, by whose
            scores all that follows is.
        finished: When it was scored (UTC).
        categories: The scores of each category's prompts, summarised.
        against_base: Compared with the base model alone, where that was scored.
        against_best: Compared with the highest mean of an earlier step; its interval is corrected
            for having picked that, unless `picked` is 0 (logs of earlier versions).
        advice: What was advised when it was scored.
        later: Scorers among `scores` that scored its kept images later, and when (UTC). A tracker
            holds a result once it shows these as well.
        skipped: How many of the run's checkpoints had been left out when it was scored, as newer
            ones came; None where all wait for their turn, and where nobody knows.
        decision: How it compares with what ended it early, None where nothing could.
        estimate: That its means are estimates for all prompts; None where they are plain.
        losses: On images that are always the same, by the tags that trackers show: "loss/heldout".
        part: It ended when its difference to another was known, and is no best beside others.
        answered: What the answers to the prompts' questions come to, by scorer.
    """

    seq: int
    step: int
    evaluation: str
    checkpoint: str
    scores: Mapping[str, Summary]
    finished: datetime
    categories: Mapping[str, Summary] = field(default_factory=dict)
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    advice: tuple[AdviceGiven, ...] = ()
    later: Mapping[str, datetime] = field(default_factory=dict)
    skipped: int | None = None
    decision: Decision | None = None
    estimate: Estimate | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    part: bool = False
    answered: Mapping[str, Answered] = field(default_factory=dict)

    @property
    def clip(self) -> Summary:
        """By the scorer that decides, under the name by which trackers show it."""
        return self.scores[""]


@dataclass(frozen=True, slots=True)
class Series:
    """All results of one run under one protocol: what becomes one curve.

    Attributes:
        run: The run's name in the log.
        name: "clipwatch" for the run's first protocol, "clipwatch-<digest>" for any other, and
            "clipwatch-strength-0.6" for one of several strengths.
        digest: The protocol's, as it was when the curve began: an earlier version knew less of it.
        protocol: What the numbers share.
        results: In order of `seq`, complete.
        scores: Read the scores of one evaluation from the log, in the protocol's order.
        images: The folder in which `ImageScore.image` names files (they may be gone).
        scales: Of the scorers, by name.
        unit: What `Result.step` counts: "step", "epoch" or "file".
        label: What tells it from those of the same checkpoints beside it, as "strength 0.6"; "" for
            the only one.
    """

    run: str
    name: str
    digest: str
    protocol: EvaluationProtocol
    results: tuple[Result, ...]
    scores: Callable[[str], tuple[ImageScore, ...]] = field(repr=False)
    images: Path

    unit: Unit = "step"
    scales: Mapping[str, Scale] = field(default_factory=dict)
    label: str = ""

    def digits(self, scorer: str) -> int:
        """Return with how many decimals a scorer's numbers are told."""
        return self.scales.get(scorer, UNKNOWN).digits


def highest(results: Iterable[Result]) -> Result | None:
    """Return the highest mean, the earlier one of equals; None of none.

    Of a step the last result stands. A part counts only where there is nothing else.
    """
    standing = {it.step: it for it in results}
    return max(
        standing.values(), key=lambda it: (not it.part, it.clip.mean, -it.step), default=None
    )
