"""The scorers of a protocol: their kinds, their scales, and where their files lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from clipwatch.domain.protocol import DUAL_ENCODER, EvaluationProtocol, ScorerSpec
from clipwatch.domain.state import Run
from clipwatch.kit import plugins
from clipwatch.kit.errors import SettingsError
from clipwatch.models.dual_encoders import DUAL_ENCODERS
from clipwatch.models.kinds import ScorerKind, told_key
from clipwatch.models.likeness import COPIED, LIKENESS
from clipwatch.models.questions import QUESTIONS
from clipwatch.models.vision_language import OCR, VQASCORE
from clipwatch.statistics.scale import UNKNOWN, Scale

OURS: Final = {
    DUAL_ENCODER: DUAL_ENCODERS,
    "likeness": LIKENESS,
    "copied": COPIED,
    "vqascore": VQASCORE,
    "ocr": OCR,
    "questions": QUESTIONS,
}
"""Kinds that come with clipwatch: `status` asks for their scales, and packages are slow to list."""


@cache
def kind_of(name: str) -> ScorerKind:
    """Return an installed kind of scorers.

    Raises:
        SettingsError: There is none of that name, or its package is missing.
    """
    if name in OURS:
        return OURS[name]
    found = plugins.load(plugins.SCORERS, name)
    if not isinstance(found, ScorerKind):
        raise SettingsError(
            f"the entry point {name!r} of {plugins.SCORERS} is no ScorerKind but {found!r:.60}"
        )
    return found


def names() -> list[str]:
    """Return the kinds that are known here, sorted."""
    return sorted({*OURS, *plugins.names(plugins.SCORERS)})


def folder_of(spec: ScorerSpec) -> Path | None:
    """Return the folder of images that belongs to a scorer, None for none."""
    option = kind_of(spec.kind).images
    named = dict(spec.options).get(option, "") if option else ""
    return Path(named) if named else None


def lacks(spec: ScorerSpec, prompts: Sequence[str]) -> str:
    """Say what some of these prompts lack to be scored by a scorer; "" if nothing.

    Raises:
        SettingsError: Its kind is not installed.
    """
    found = kind_of(spec.kind).lacking
    return found(prompts) if found else ""


def scale_of(spec: ScorerSpec, environment: Mapping[str, str] | None = None) -> Scale:
    """Return the scale of a scorer's numbers; UNKNOWN where its kind is not installed any more.

    Args:
        spec: The scorer.
        environment: Of an evaluation, for what the scorer told of itself. Those of earlier versions
            lack it: then the scorer that decides is taken for a CLIP.
    """
    told = ""
    if environment is not None:
        told = environment.get(told_key(spec.name), "" if spec.name else "100").partition(",")[0]
    try:
        return kind_of(spec.kind).scale(spec, told)
    except SettingsError:
        return UNKNOWN


def scales_of(
    protocol: EvaluationProtocol, environment: Mapping[str, str] | None = None
) -> dict[str, Scale]:
    """Return the scale of each scorer of a protocol, by its name."""
    return {spec.name: scale_of(spec, environment) for spec in protocol.scorers}


def further_scales(run: Run) -> dict[str, Scale]:
    """Return the scale of each scorer that scored kept images of a run later, by its name."""
    return {name: scale_of(it.spec, {told_key(name): it.told}) for name, it in run.further.items()}
