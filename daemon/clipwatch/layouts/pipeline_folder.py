"""A whole diffusers pipeline per checkpoint: any folder with model_index.json and a number.

Source: diffusers' DiffusionPipeline.save_pretrained writes model_index.json last. The step is the
last number in the name: step-500, epoch3-gs01500, my-model_000001000.
"""

from __future__ import annotations

import re

INDEX = "model_index.json"


def step(name: str) -> int | None:
    """The last number in the name; none is read from 1e9 or from more digits than a step has."""
    if name.endswith("-tmp") or name.startswith((".", "temporary-")):
        return None
    numbers = re.findall(r"(\d+[eE][+-]?)?(\d+)", name, re.ASCII)
    exponent, digits = numbers[-1] if numbers else ("", "")
    return int(digits) if not exponent and 1 <= len(digits) <= 18 else None  # noqa: PLR2004


def owns(names: set[str]) -> bool:
    """The index makes it a pipeline."""
    return INDEX in names


def settling(names: set[str], siblings_marked: bool) -> float:  # noqa: ARG001 - the layouts' interface
    """The index may stand from an earlier save into the same folder, so files must settle."""
    return 1.0
