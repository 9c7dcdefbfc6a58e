"""Checkpoints as single LoRA files in the output directory, one after each epoch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.layouts.base import Candidate, Inspection, Listing
from clipwatch.layouts.contents import adapter

_NAME = re.compile(r"lora-epoch-(\d{1,9})\.safetensors")


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Return the files named lora-epoch-N.safetensors."""
    for name in listing.files:
        if found := _NAME.fullmatch(name):
            yield Candidate(int(found[1]), "epoch", name, listing.root, (name,))


def inspect(candidate: Candidate, weights: str) -> Inspection:  # noqa: ARG001 - it keeps no EMA
    """Return the LoRA that the file holds."""
    return Inspection(adapter(candidate.root, candidate.files[0]))
