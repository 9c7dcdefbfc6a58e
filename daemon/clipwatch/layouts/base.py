"""The seam between clipwatch and a trainer: where its checkpoints lie, and what is in each.

A trainer is one module (or object) with the two functions of `Layout`; see docs/plugins.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clipwatch.domain.kinds import TrainedWeights, Unit
from clipwatch.domain.sighting import Weights
from clipwatch.layouts.files import Damaged, NotReadable, NotWhole, Unsupported, settling_for

# what a layout needs to know, it finds here
__all__ = [
    "Candidate",
    "Damaged",
    "Inspection",
    "Layout",
    "Listing",
    "NotReadable",
    "NotWhole",
    "Unit",
    "Unsupported",
    "Weights",
    "settling_for",
]

_LARGEST = 10**18


@dataclass(frozen=True, slots=True)
class Listing:
    """An output directory at one look: all that candidates are found by.

    Attributes:
        root: The output directory.
        folders: The names of the folders in it, in any order.
        files: Those of the regular files; links count as what they lead to, in both.
        holds: Whether a path, relative to `root`, is there as far as we may see; costs a stat.
        links: The entries that are only a second name for one beside them: link → that one.
        inside: Lists a folder in it by name, for trainers that keep theirs one level down; costs a
            scan, and finds nothing in what cannot be read.
    """

    root: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]
    holds: Callable[[str], bool]
    links: Mapping[str, str] = field(default_factory=dict)
    inside: Callable[[str], Listing] = lambda name: Listing(Path(name), (), (), lambda _: False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is a checkpoint, or is about to become one.

    Attributes:
        step: Where it stands on the curve: 0 or more, below 10**18.
        unit: What `step` counts: "step", the trainer's global steps, "epoch", or "file" for what
            has no place but that of its name.
        name: Its identity, for people too: of a folder its name, of a single file the file's.
        root: Its folder; for files in a flat folder that one.
        files: Those that it consists of, relative to `root`; none for all that `root` holds.
        marked: Whether its trainer marks what is complete, as others beside it show.
        series: What the names of one training have in common, "" where they tell no training.
        placed: Whether `step` is where it stands; if not, what is in it has to tell (see
            Inspection), and it stands nowhere if that does not.

    Raises:
        ValueError: The step is out of range, or the name is none that a folder can have.
    """

    step: int
    unit: Unit
    name: str
    root: Path
    files: tuple[str, ...] = ()
    marked: bool = False
    placed: bool = True
    series: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.step < _LARGEST:
            raise ValueError(f"{self.step} is no step")
        if self.name in {"", ".", ".."} or "/" in self.name:
            raise ValueError(f"{self.name!r} is no name")

    @property
    def path(self) -> Path:
        """Where a person finds it."""
        return self.root / self.files[0] if self.files else self.root


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a candidate holds, and for how many settling times that must have been unchanged.

    0.0 says that a mark of the trainer's makes it complete; 1.0 is for all that is known to be
    there; more where something may still come that nobody would miss.

    Attributes:
        weights: What is to be loaded.
        settlings: See above.
        at: Step and what it counts, where what lies in it tells that better than its name.
        same: What two files with the same weights have in common, whatever else is in them; ""
            where nothing tells. Of two that stand at one place only the first is evaluated.
    """

    weights: Weights
    settlings: float = 1.0
    at: tuple[int, Unit] | None = None
    same: str = ""


class Layout(Protocol):
    """How one trainer names, completes and fills its checkpoints."""

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """Return what of this is this trainer's; the listing is asked, never the disk.

        What an earlier layout has claimed is no longer in the listing.
        """

    def inspect(self, candidate: Candidate, weights: TrainedWeights) -> Inspection:
        """Look into a candidate of its own, for "live" or "ema" weights; reads headers at most.

        Headers and sizes of safetensors files are checked by whoever calls, as is that nothing
        changes for the time asked for.

        Raises:
            NotWhole: Something lacks that may still come; the text says what.
            Damaged: Something is nonsense that nothing added to it can mend.
            Unsupported: Nothing in it can be evaluated, whatever may come.
            NotReadable: Something may not be read.
            OSError: It is being deleted, or cannot be read.
        """
