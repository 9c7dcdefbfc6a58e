"""OneTrainer: save/…-save-GLOBAL-EPOCH-STEP, a file or a folder of diffusers.

Source: OneTrainer, modules/trainer/GenericTrainer.py (__save) and modules/util/TrainProgress.py:
the first number is the global step, the last the step in its epoch. A file is written under another
name and renamed; a backup is a folder with a name of the same form. The folder save/ of a workspace
may be named, or the workspace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.layouts.base import Candidate, Listing
from clipwatch.layouts.single_file import Named, inspect, numbered

__all__ = ["candidates", "inspect"]

_NAME = re.compile(r".*-(?:save|backup)-(?P<step>\d{1,18})-\d{1,18}-\d{1,18}", re.ASCII)
_FOLDER = "save"


def _read(stem: str) -> Named | None:
    match = _NAME.fullmatch(stem)
    return Named("", int(match["step"]), "step") if match else None


def candidates(listing: Listing) -> Iterator[Candidate]:
    """What lies here, and in save/."""
    yield from numbered(listing, _read)
    if _FOLDER in listing.folders:
        yield from numbered(listing.inside(_FOLDER), _read)
