"""The settings of a training that is not SimpleTuner's, from where its trainer keeps them.

Read only: no code is run, no pickle opened, and what is said of a path of another machine is looked
for around the output directory. A trainer is a module with `read(place) -> Left`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from clipwatch.settings.settings import KEYS
from clipwatch.settings.trainers import (
    ai_toolkit,
    diffusers_scripts,
    diffusion_pipe,
    everydream2,
    kohya,
    onetrainer,
    prompting,
)
from clipwatch.settings.trainers.architectures import usual_base
from clipwatch.settings.trainers.bases import resolved
from clipwatch.settings.trainers.left import BASE, PROMPTS, SIZE, Left
from clipwatch.settings.trainers.place import Place
from clipwatch.settings.values import Given

__all__ = ["FLAG", "Found", "found"]

FLAG: Final = "--base-model"
"""It stands in each remark that says which base was trained on."""

_OF_BASE: Final = frozenset(
    (BASE, "revision", "variant", "prediction_type", "rescale_betas_zero_snr")
)
"""What all that was trained from a base model has in common."""

_READERS = (ai_toolkit, onetrainer, everydream2, diffusion_pipe, kohya, diffusers_scripts)
"""Those whose files have names of their own come first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a trainer left about the settings of its training.

    Attributes:
        trainer: The name of its layout, "" if nothing was found.
        keys: A layer of the settings: clipwatch's key → the value, which its reader accepts.
        remarks: A line each: what of it cannot be followed, and what to set instead.
    """

    trainer: str
    keys: tuple[tuple[str, Given], ...]
    remarks: tuple[str, ...]


def found(output_dir: Path, files: Sequence[Path] = (), *, apart: bool = False) -> Found:
    """Return what the trainer's own files say that lie in an output directory or around it.

    Args:
        output_dir: Absolute, or relative to the working directory; it need not exist.
        files: Weights that are named one by one, instead of all in the directory.
        apart: The weights are of whatever trainings, so that of what one of them tells the base
            model alone is meant; a configuration beside them is all of theirs.
    """
    place = Place.of(output_dir, files)
    told = _told(replace(place, weights=None, metadata={}) if apart else place)
    if told.trainer or not apart:
        return told
    told = _told(place)
    keys = tuple((name, given) for name, given in told.keys if name in _OF_BASE)
    return Found(told.trainer, keys, tuple(it for it in told.remarks if FLAG in it))


def _told(place: Place) -> Found:
    remarks: list[str] = []
    for reader in _READERS:
        left = reader.read(place)
        remarks += left.remarks
        if left.trainer:
            keys, more = _finished(left, place)
            return Found(left.trainer, keys, tuple(dict.fromkeys((*remarks, *more))))
    return Found("", (), tuple(dict.fromkeys(remarks)))


def _finished(left: Left, place: Place) -> tuple[tuple[tuple[str, Given], ...], tuple[str, ...]]:
    """Return the keys with base and prompts, and a line for each that its reader refuses."""
    asked, remarks = prompting.followed(left, place)
    keys = {**left.keys, **asked}
    if PROMPTS not in asked and left.trained:
        keys[SIZE] = left.trained
    if left.base is not None and left.base.value:
        base, told = resolved(left.base, place, left.family)
        keys |= {BASE: base} if base else {}
        remarks += told
    elif usual := usual_base(left.family, ""):
        fix = f"set {BASE} (--base-model), such as {usual}"
        remarks += (f"the base of this training is told nowhere: {fix}",)
    kept, refused = _readable(keys)
    return tuple(kept.items()), (*remarks, *refused)


def _readable(keys: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    kept, refused = {}, []
    for name, given in keys.items():
        try:
            KEYS[name].read(given.value)
        except ValueError as error:
            refused.append(given.told(f"{error}, so clipwatch's own {name} holds"))
        else:
            kept[name] = given
    return kept, refused
