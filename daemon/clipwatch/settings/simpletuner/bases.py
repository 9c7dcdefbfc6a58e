"""Whether a local base model is one of the family that is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipwatch.kit import textfiles
from clipwatch.kit.errors import SettingsError
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.simpletuner.tables import table, versions
from clipwatch.settings.values import Given

_INDEX = "model_index.json"
_LARGEST = 2**20
_END = "Pipeline"


def remark(model: Model, family: Given, base: Given) -> tuple[str, ...]:
    """Tell of a base model whose model_index.json names a pipeline that is none of the family's.

    A longer name of one of them is taken for a variant, as Flux2KleinPipeline of Flux2Pipeline.

    Args:
        model: What the family means.
        family: model_family.
        base: A folder's absolute path, or a Hub id, of which nothing is said.

    Raises:
        SettingsError: The trainer's file names both, and the pipeline is another family's.
    """
    pipeline = pipeline_of(Path(base.value))
    if not pipeline or model.family is None:
        return ()
    own = _pipelines(model.name)
    others = {name for version in versions() for name in table(version).families} - {model.name}
    owners = [name for name in sorted(others) if pipeline in _pipelines(name)]
    variant = any(pipeline.startswith(name.removesuffix(_END)) for name in own)
    if pipeline in own or not own or (variant and not owners):
        return ()
    expected = " or ".join(sorted(own))
    message = f"{family.value!r} has {expected}, and the base model {base.value!r} {pipeline}"
    if not owners:
        return (family.told(f"{message}, by its {_INDEX}: its rules may not fit"),)
    wrong, fix = f"{message}, which is of {' and '.join(owners)}", "correct one of the two"
    if family.trainers and base.trainers:
        raise family.error(wrong, fix=fix)
    return (family.told(f"{wrong}: {fix}"),)


def _pipelines(family: str) -> set[str]:
    """Return the pipeline classes of a family, in all versions."""
    tables = (table(version).families.get(family) for version in versions())
    flavours = (it for known in tables if known for it in known["flavours"].values())
    return {it["pipeline"] for it in flavours if "pipeline" in it}


def pipeline_of(folder: Path) -> str:
    """Return the class that a pipeline's index names, "" for none that can be read."""
    if not folder.is_absolute():
        return ""
    try:
        read: Any = json.loads(textfiles.read(folder / _INDEX, _LARGEST))
    except (SettingsError, OSError, ValueError, RecursionError):
        return ""
    named = read.get("_class_name") if isinstance(read, dict) else None
    return named if isinstance(named, str) else ""
