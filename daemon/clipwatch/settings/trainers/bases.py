"""The base model that a trainer names: a Hub id, or a folder of diffusers that is here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from clipwatch.layouts.pipeline_parts import INDEX
from clipwatch.settings.trainers.architectures import usual_base
from clipwatch.settings.trainers.left import BASE
from clipwatch.settings.trainers.place import HOLDERS, Place, is_file, is_folder
from clipwatch.settings.values import Given

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_CACHED: Final = re.compile(r"models--([\w.-]+?)--([\w.-]+)[\\/]snapshots[\\/]")
"""Where the Hub's cache keeps a model, on whichever machine."""

_LONGEST: Final = 4096
"""Characters of a path."""

_WEIGHTS: Final = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def resolved(named: Given, place: Place, family: str) -> tuple[Given | None, tuple[str, ...]]:
    """Return the base model if clipwatch can load it, else one line that says what to set.

    Args:
        named: As the trainer has it; a path may be of another machine.
        place: Around which it is looked for.
        family: Of which it is, "" for an unknown one.
    """
    name = str(named.value).strip()
    alone = None
    if (cached := _CACHED.search(name[:_LONGEST])) and not is_folder(Path(name)):
        name = f"{cached[1]}/{cached[2]}"
    if _is_hub_id(name) and not any(is_folder(it / name) for it in place.around(named.file)):
        return replace(named, value=name), ()
    for path in place.models(name, named.file):
        if is_folder(path) and is_file(path / INDEX):
            return named.but(str(path), "" if str(path) == name else f"found for {name}"), ()
        alone = alone or (path if is_file(path) else None)
    if alone:
        why = f"is a single file, {str(alone)!r}"
    elif any(is_folder(path) for path in place.models(name, named.file)):
        why = f"is a folder without {INDEX}"
    else:
        why = "is not here"
    usual = usual_base(family, name)
    such = f", such as {usual}" if usual else ""
    told = f"the base of this training, {name!r}, {why}"
    fix = f"set {BASE} (--base-model) to its folder of diffusers or its Hub id{such}"
    return None, (named.told(f"{told}: {fix}"),)


def _is_hub_id(name: str) -> bool:
    """Whether it can be one, and is no path to be looked for."""
    owner = name.partition("/")[0]
    path = name.startswith((".", "~")) or owner in HOLDERS
    return bool(_HUB_ID.fullmatch(name)) and not path and not name.lower().endswith(_WEIGHTS)
