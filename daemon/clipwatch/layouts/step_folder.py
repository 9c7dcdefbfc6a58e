"""Folders that are called by a step or an epoch and hold an adapter: step-500/, epoch_3/.

No trainer in particular: scripts of PEFT's examples, forks of diffusers' scripts, finetrainers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.layouts import contents
from clipwatch.layouts.base import Candidate, Inspection, Listing, settling_for
from clipwatch.layouts.pipeline_parts import DENOISERS

_NAME = re.compile(
    r"(?:.*[-_])?(?P<unit>global[-_]?steps?|steps?|checkpoint|ckpt|iter|epoch)[-_]?(?P<number>\d{1,18})",
    re.ASCII | re.IGNORECASE,
)
_HOLDS = (*contents.ADAPTERS, *DENOISERS)


def candidates(listing: Listing) -> Iterator[Candidate]:
    """A name is not enough: an adapter or a denoiser must be in it."""
    for name in listing.folders:
        match = _NAME.fullmatch(name)
        if match and any(listing.holds(f"{name}/{held}") for held in _HOLDS):
            unit: str = match["unit"].lower()
            number = int(match["number"])
            yield Candidate(
                number, "epoch" if unit == "epoch" else "step", name, listing.root / name
            )


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """Nobody knows what comes last, so everything must stay unchanged for longer."""
    with settling_for(6.0):
        return Inspection(contents.find(candidate.root, weights), 6.0)
