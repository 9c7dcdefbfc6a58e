"""SimpleTuner: checkpoint-N and checkpoint-N-rolling, complete when `.guard` stands in them.

Source: SimpleTuner 4.8.0, helpers/utils/checkpoint_manager.py and helpers/training/trainer.py. The
guard is the last file written since 4.3.2, checkpoint_manifest.json the last but one since 4.0.2.
"""

from __future__ import annotations

import re

from clipwatch.layouts.files import NotWhole

GUARD = ".guard"
MANIFEST = "checkpoint_manifest.json"
_NAME = re.compile(r"checkpoint-(\d{1,18})(-rolling)?", re.ASCII)


def step(name: str) -> int | None:
    """`-tmp` folders are not finished and `temporary-N` ones are none of ours."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def owns(names: set[str]) -> bool:
    """SimpleTuner writes training_state.json first of all."""
    return not names.isdisjoint({"training_state.json", MANIFEST, GUARD})


def settling(names: set[str], siblings_marked: bool) -> float:
    """The guard decides; before 4.3.2 there was none, and files must settle."""
    if GUARD in names:
        return 0.0
    if siblings_marked:
        raise NotWhole("no .guard in it: SimpleTuner is writing it, or was stopped while it did")
    if MANIFEST in names or "random_states_0.pkl" in names:
        return 1.0
    return 6.0
