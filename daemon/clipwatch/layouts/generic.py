"""Checkpoints by the user's own words: a pattern of names, and an expression for the number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from clipwatch.domain.kinds import TrainedWeights, Unit
from clipwatch.layouts import single_file
from clipwatch.layouts.base import Candidate, Inspection, Listing, settling_for

_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Generic:
    """A layout as it is written in the settings.

    Attributes:
        files: A pattern as a shell's, for the names of files and folders.
        step: A regular expression; what its group matches is the step, or, in a group that is named
            epoch, the epoch.
    """

    files: str
    step: str

    def candidates(self, listing: Listing) -> Iterator[Candidate]:
        """What fits both."""
        for name in (*listing.files, *listing.folders):
            match = re.search(self.step, name) if fnmatchcase(name, self.files) else None
            number = match[1] or "" if match else ""
            if number.isascii() and number.isdigit() and len(number) <= _DIGITS:
                unit: Unit = "epoch" if "epoch" in re.compile(self.step).groupindex else "step"
                one = name in listing.files
                root = listing.root if one else listing.root / name
                yield Candidate(int(number), unit, name, root, (name,) if one else ())

    def inspect(self, candidate: Candidate, weights: TrainedWeights) -> Inspection:
        """Nobody knows what comes last in a folder, so all must stay unchanged for longer."""
        with settling_for(1.0 if candidate.files else 6.0):
            found = single_file.inspect(candidate, weights)
        return found if candidate.files else Inspection(found.weights, 6.0)
