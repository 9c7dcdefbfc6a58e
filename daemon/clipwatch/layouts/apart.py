"""Adapters that lie side by side, of whatever trainings: each is a checkpoint of its own.

No order of theirs is known. What counts them is their place among the names, and no step: what a
file's metadata tells of its own training orders nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.layouts import contents, single_file
from clipwatch.layouts.base import Candidate, Inspection, Listing, settling_for
from clipwatch.layouts.pipeline_parts import INDEX

_HOLDS = (*contents.ADAPTERS, INDEX)


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Safetensors files, and folders with an adapter or a pipeline, in the order of their names."""
    files = [it for it in listing.files if it.endswith(single_file.SUFFIX)]
    folders = [
        it for it in listing.folders if any(listing.holds(f"{it}/{held}") for held in _HOLDS)
    ]
    for place, name in enumerate(sorted((*files, *folders)), start=1):
        root = listing.root if name in files else listing.root / name
        yield Candidate(place, "file", name, root, (name,) if name in files else ())


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """Look as at any single file, whose step does not count; nobody knows what comes last.

    Raises:
        NotWhole, Damaged, NotReadable, Unsupported: As `Layout.inspect`.
    """
    if not candidate.files:
        with settling_for(6.0):
            return Inspection(contents.find(candidate.root, weights), 6.0)
    return replace(single_file.inspect(candidate, weights), at=None)
