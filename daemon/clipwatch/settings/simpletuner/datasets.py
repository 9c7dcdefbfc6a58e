"""What the trainer's datasets change in its validation."""

from __future__ import annotations

import json
from typing import Any

from clipwatch.kit import textfiles
from clipwatch.kit.errors import SettingsError
from clipwatch.settings.places import Places
from clipwatch.settings.values import Given

FAMILIES = ("z_image",)
"""Those whose validation starts from pictures as soon as a dataset has some to start from
(requires_conditioning_validation_inputs in models/z_image/model.py)."""

_LARGEST = 2**20


def remark(named: Given, family: str, places: Places) -> tuple[str, ...]:
    """Tell where data_backend_config makes a family's validation start from pictures."""
    if family not in FAMILIES or not isinstance(named.value, str):
        return ()
    starts = _conditions(named, places)
    if starts is None:
        return (
            named.told(
                f"cannot be read, so whether SimpleTuner's validation of {family} starts from "
                "pictures is not known; clipwatch makes pictures from prompts alone"
            ),
        )
    if not starts:
        return ()
    return (
        named.told(
            f"SimpleTuner's validation of {family} starts from the pictures of a conditioning "
            "dataset there; clipwatch makes pictures from prompts alone"
        ),
    )


def _conditions(named: Given, places: Places) -> bool | None:
    """Whether a dataset has pictures to start from; None where that cannot be read."""
    try:
        read: Any = json.loads(textfiles.read(places.file(named), _LARGEST))
    except (SettingsError, ValueError, RecursionError):
        return None
    datasets = read if isinstance(read, list) else []
    return any(
        isinstance(it, dict) and ("conditioning" in it or it.get("dataset_type") == "conditioning")
        for it in datasets
    )
