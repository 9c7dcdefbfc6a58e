"""textual_inversion.py of diffusers: learned_embeds-steps-500.safetensors beside the checkpoints.

Source: diffusers, examples/textual_inversion (save_progress): the checkpoint-N folders hold
accelerate's state alone; that of SDXL writes learned_embeds_2 for the second text encoder after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from clipwatch.layouts.base import Candidate, Listing
from clipwatch.layouts.single_file import Named, inspect, numbered

__all__ = ["candidates", "inspect"]

_NAME = re.compile(r"(?P<series>learned_embeds)-steps-(?P<step>\d{1,18})", re.ASCII)


def _read(stem: str) -> Named | None:
    match = _NAME.fullmatch(stem)
    return Named(match["series"], int(match["step"]), "step") if match else None


def candidates(listing: Listing) -> Iterator[Candidate]:
    """The embeddings of each save, and the final ones."""
    for it in numbered(listing, _read):
        second = it.name.replace("learned_embeds", "learned_embeds_2", 1)
        more = (second,) if listing.holds(second) else ()
        yield replace(it, files=(*it.files, *more))
