"""A whole diffusers pipeline per checkpoint: any folder with model_index.json and a number.

Source: diffusers' DiffusionPipeline.save_pretrained writes model_index.json last. The step is the
last number in the name: step-500, epoch3-gs01500, my-model_000001000; it is an epoch in epoch-3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.domain.kinds import TrainedWeights, Unit
from clipwatch.layouts import contents
from clipwatch.layouts.base import Candidate, Inspection, Listing
from clipwatch.layouts.pipeline_parts import INDEX


def step(name: str) -> int | None:
    """The last number in the name; none is read from 1e9 or from more digits than a step has."""
    if name.endswith("-tmp") or name.startswith((".", "temporary-")):
        return None
    numbers = re.findall(r"(\d+[eE][+-]?)?(\d+)", name, re.ASCII)
    exponent, digits = numbers[-1] if numbers else ("", "")
    return int(digits) if not exponent and 1 <= len(digits) <= 18 else None  # noqa: PLR2004


def _unit(name: str) -> Unit:
    """What the last number counts: an epoch where it is called so."""
    return (
        "epoch"
        if re.search(r"(?:^|[^a-zA-Z])ep(?:och)?[-_]?\d+\D*$", name, re.IGNORECASE)
        else "step"
    )


def candidates(listing: Listing) -> Iterator[Candidate]:
    """The index makes it a pipeline."""
    for name in listing.folders:
        found = step(name)
        if found is not None and listing.holds(f"{name}/{INDEX}"):
            yield Candidate(found, _unit(name), name, listing.root / name)


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """The index may stand from an earlier save into the same folder, so files must settle."""
    return Inspection(contents.find(candidate.root, weights))
