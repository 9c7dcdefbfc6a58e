"""SimpleTuner: checkpoint-N and checkpoint-N-rolling, complete when `.guard` stands in them.

Source: SimpleTuner 4.8.0, helpers/utils/checkpoint_manager.py and helpers/training/trainer.py. The
guard is the last file written since 4.3.2, checkpoint_manifest.json the last but one since 4.0.2,
training_state.json the first of all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Weights
from clipwatch.layouts import contents
from clipwatch.layouts.base import Candidate, Inspection, Listing, NotWhole, settling_for

GUARD = ".guard"
MANIFEST = "checkpoint_manifest.json"
_EARLIER = ("training_state.json", MANIFEST)
_NAME = re.compile(r"checkpoint-(\d{1,18})(-rolling)?", re.ASCII)


def step(name: str) -> int | None:
    """`-tmp` folders are not finished and `temporary-N` ones are none of ours."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def candidates(listing: Listing) -> Iterator[Candidate]:
    """The names are those of diffusers' scripts; the files in the folders tell them apart."""
    named = {name: found for name in listing.folders if (found := step(name)) is not None}
    guarded = {name for name in named if listing.holds(f"{name}/{GUARD}")}
    for name, found in named.items():
        if name in guarded or any(listing.holds(f"{name}/{mark}") for mark in _EARLIER):
            yield Candidate(found, "step", name, listing.root / name, marked=bool(guarded))


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """The guard decides; before 4.3.2 there was none, and files must settle."""
    root = candidate.root
    settlings = _settlings(set(os.listdir(root)), guarded=candidate.marked)
    with settling_for(settlings):
        found = contents.find(root, weights)
        if settlings == 0.0 and _written_after_guard(root, found):
            contents.check_headers(root, found)
            settlings = 1.0
    return Inspection(found, settlings)


def _settlings(names: set[str], *, guarded: bool) -> float:
    if GUARD in names:
        return 0.0
    if guarded:
        raise NotWhole("no .guard in it: SimpleTuner is writing it, or was stopped while it did")
    if MANIFEST in names or "random_states_0.pkl" in names:
        return 1.0
    return 6.0


def _written_after_guard(root: Path, weights: Weights) -> bool:
    """Whether the weights were written again, so that the guard does not speak of them."""
    try:
        guard = (root / GUARD).stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return any(file.mtime_ns > guard for file in weights.files)
