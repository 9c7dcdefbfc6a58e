"""What a tracker adapter fulfils, and how adapters are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from clipwatch.errors import SettingsError
from clipwatch.events import AdviceGiven, ImageScore
from clipwatch.protocol import EvaluationProtocol
from clipwatch.statistics import Comparison, Summary

GROUP = "clipwatch.adapters"


@dataclass(frozen=True, slots=True)
class Result:
    """One finished evaluation as a tracker shows it.

    Attributes:
        seq: Its place among the results of its series: 0, 1, 2, ... without gaps, never reused.
        step: The trainer's global step. Several results may share one; the highest `seq` stands.
        evaluation: Its identity in the log.
        checkpoint: The checkpoint's name.
        clip: The cosines, summarised.
        finished: When it was scored (UTC).
        categories: The cosines of each category's prompts, summarised.
        others: The scores of each further scorer, summarised, by the scorer's name.
        against_base: Compared with the base model alone, where that was scored.
        against_best: Compared with the highest mean of an earlier step; its interval is corrected
            for having picked that, unless `picked` is 0 (logs of earlier versions).
        advice: What was advised when it was scored.
    """

    seq: int
    step: int
    evaluation: str
    checkpoint: str
    clip: Summary
    finished: datetime
    categories: Mapping[str, Summary] = field(default_factory=dict)
    others: Mapping[str, Summary] = field(default_factory=dict)
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    advice: tuple[AdviceGiven, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """All results of one run under one protocol: what becomes one curve.

    Attributes:
        run: The run's name in the log.
        name: "clipwatch" for the run's first protocol, "clipwatch-<digest>" for any other.
        protocol: What the numbers share.
        results: In order of `seq`, complete.
        scores: Read the scores of one evaluation from the log, in the protocol's order.
        images: The folder in which `ImageScore.image` names files (they may be gone).
    """

    run: str
    name: str
    protocol: EvaluationProtocol
    results: tuple[Result, ...]
    scores: Callable[[str], tuple[ImageScore, ...]] = field(repr=False)
    images: Path


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tracker is to publish: the trainer's own words and our own room.

    Attributes:
        output_dir: The trainer's output directory (read-only but for a TensorBoard child run).
        logging_dir: The trainer's TensorBoard folder, absolute.
        working_dir: The trainer's working directory, where W&B keeps its files.
        project: tracker_project_name.
        run_name: tracker_run_name.
        state_dir: A folder of ours for this run and tracker, may not exist yet.
        where: The place of earlier publications, "" before the first.
        options: The tracker's own object in the settings ("wandb": {"entity": ...}).
    """

    output_dir: Path
    logging_dir: Path
    working_dir: Path
    project: str
    run_name: str
    state_dir: Path
    where: str
    options: dict[str, str] = field(repr=False)  # an api_key may be among them


class Tracker(Protocol):
    """One tracker; made as `Adapter(target)`, used from one thread, never at the same time twice.

    All methods may block up to a bound of the adapter's own (a minute at most). They raise
    TrackerUnavailable for what may pass and TrackerRefused for what somebody must mend.
    """

    def published(self, series: Series) -> frozenset[int]:
        """Read from the tracker itself which `seq` of the series it holds now."""

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results to the tracker. May be killed at any point and repeated."""

    def where(self, series: Series) -> str:
        """Return the address or folder where a person finds the series; no side effect."""

    def hint(self, series: Series) -> str:
        """Return the command that shows or uploads the series, "" for none; no side effect."""


def names() -> list[str]:
    """Return the names of the installed adapters, sorted."""
    return sorted(entry_points(group=GROUP).names)


def load(name: str) -> Callable[[Target], Tracker]:
    """Return the adapter registered as `name`.

    Raises:
        SettingsError: There is none, or its package is missing.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise SettingsError(f"unknown tracker {name!r}; known: {', '.join(names())}")
    try:
        adapter: Callable[[Target], Tracker] = next(iter(found)).load()
    except ImportError as error:
        raise SettingsError(
            f"tracker {name!r} needs a package", fix=f"pip install {error.name}"
        ) from error
    return adapter
