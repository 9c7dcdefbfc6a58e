"""ai-toolkit: NAME_000000500.safetensors, or a folder of that name, and NAME at the end.

Source: ai-toolkit 0.12, jobs/process/BaseSDTrainProcess.py (save, clean_up_saves): nine digits
count steps; the weights are written in place, optimizer.pt after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.layouts.base import Candidate, Listing
from clipwatch.layouts.single_file import Named, inspect, numbered

__all__ = ["candidates", "inspect"]

_NAME = re.compile(r"(?P<series>.+?)_(?P<step>\d{9})", re.ASCII)


def _read(stem: str) -> Named | None:
    match = _NAME.fullmatch(stem)
    return Named(match["series"], int(match["step"]), "step") if match else None


def candidates(listing: Listing) -> Iterator[Candidate]:
    """What has nine digits behind its name, and the final one without."""
    return numbered(listing, _read)
