"""kohya's sd-scripts, with kohya_ss and FluxGym on top of them, and musubi-tuner: single files.

Source: sd-scripts 0.10, library/train_util.py (STEP_FILE_NAME, EPOCH_FILE_NAME, LAST_FILE_NAME and
the defaults of each); musubi-tuner has the same. Six digits count epochs; a file is written in
place; full models may be folders of diffusers with the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.layouts.base import Candidate, Listing
from clipwatch.layouts.single_file import Named, inspect, numbered

__all__ = ["candidates", "inspect"]

_NAME = re.compile(r"(?P<series>.+)-(?:step(?P<step>\d{8,18})|(?P<epoch>0\d{5}))", re.ASCII)
_UNNAMED = {"at": "last", "epoch": "last"}
"""Without --output_name: at-step00000500, epoch-000001, last."""


def _read(stem: str) -> Named | None:
    match = _NAME.fullmatch(stem)
    if not match:
        return None
    series = _UNNAMED.get(match["series"], match["series"])
    if match["step"]:
        return Named(series, int(match["step"]), "step")
    return Named(series, int(match["epoch"]), "epoch")


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Step files, epoch files, and the final one that has no number."""
    return numbered(listing, _read)
