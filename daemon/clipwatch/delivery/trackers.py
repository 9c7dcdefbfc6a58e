"""What a tracker adapter fulfils."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from clipwatch.kit import plugins
from clipwatch.results.series import Series


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tracker is to publish: the trainer's own words and our own room.

    Attributes:
        output_dir: The trainer's output directory (read-only but for a TensorBoard child run).
        first_dir: What it was called when the run began; it may have been moved since.
        logging_dir: The trainer's TensorBoard folder, absolute.
        working_dir: The trainer's working directory, where W&B keeps its files.
        project: tracker_project_name.
        run_name: tracker_run_name.
        state_dir: A folder of ours for this run and tracker, may not exist yet.
        where: The place of the last publication, as `where` told it; "" before the first.
        places: That of each series that was published, by its name.
        options: The tracker's own object in the settings ("wandb": {"entity": ...}).
    """

    output_dir: Path
    first_dir: Path
    logging_dir: Path
    working_dir: Path
    project: str
    run_name: str
    state_dir: Path
    where: str
    options: dict[str, str] = field(repr=False)  # an api_key may be among them
    places: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """One tracker; made as `Adapter(target)`, used from one thread, never at the same time twice.

    One that uses a package without importing it, as in a child process, names its module by a class
    attribute `needs`: where that is not installed, settings that name the tracker are refused.

    All methods may block up to a bound of the adapter's own (a minute at most). They raise
    TrackerUnavailable for what may pass and TrackerRefused for what somebody must mend.
    """

    def destination(self) -> str:
        """Tell all that decides where series go: a server and an account, a folder, ...

        When the text changes, everything is owed there again. So it is the same after a restart,
        and holds no secret. At once, without asking a server; no side effect.
        """

    def published(self, series: Series) -> frozenset[int]:
        """Read from the tracker itself which `seq` of the series it holds now.

        Each with the numbers of all scorers that came later (Result.later).
        """

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results to the tracker. May be killed at any point and repeated."""

    def where(self, series: Series) -> str:
        """Return the address or folder where a person finds the series; no side effect."""

    def hint(self, series: Series) -> str:
        """Return the command that shows or uploads the series, "" for none; no side effect."""


@runtime_checkable
class Clearing(Protocol):
    """What a tracker may be able to do besides, for `clipwatch publish --fresh`."""

    def clear(self, series: Series) -> None:
        """Take away what is there of the series' results, so that all of them are missing.

        May be killed at any point, and is followed by `publish`.
        """


@runtime_checkable
class Surveying(Protocol):
    """What a tracker may be able to do besides, for who has lost a part of the log."""

    def more(self, series: Series) -> Sequence[str]:
        """Return the evaluations that `published` found there beside the series' results.

        In the same curve, but by another log: a newer copy of this one, or another machine's.
        """


@runtime_checkable
class Extending(Protocol):
    """What a tracker of local files may be able to do besides, so that long runs cost no more."""

    def extend(self, series: Series) -> bool:
        """Add the one result of a series behind all others; False where it has another place.

        Nothing is read for it, but that nobody else wrote there since.
        """


def load(name: str) -> Callable[[Target], Tracker]:
    """Return the adapter registered as `name`.

    Raises:
        SettingsError: There is none, or its package is missing.
    """
    adapter: Callable[[Target], Tracker] = plugins.load(plugins.TRACKERS, name)
    return adapter


def make(name: str, target: Target) -> Tracker:
    """Return the adapter registered as `name`, for a target.

    Raises:
        SettingsError: As `load`.
    """
    return load(name)(target)
