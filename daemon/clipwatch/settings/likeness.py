"""The scorers that a folder of images stands for: likeness to a subject, copies of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from clipwatch.domain.protocol import DUAL_ENCODER
from clipwatch.models.likeness import IMAGES
from clipwatch.settings import scorers, sources
from clipwatch.settings.places import Places
from clipwatch.settings.values import Given

REFERENCES: Final = "references"
TRAINED_ON: Final = "training_images"
MODEL: Final = "likeness_model"


def asked(given: Mapping[str, Given], places: Places) -> dict[str, Given]:
    """Return further scorers as `scorers` would name them, each with the origin of its folder.

    Of a dual encoder that decides the image tower scores likeness, too.

    Raises:
        SettingsError: One of these names is taken.
    """
    first = scorers.first(given, places)
    model, found = str(given[MODEL].value), {}
    references, trained = given[REFERENCES], given[TRAINED_ON]
    if references.value:
        if first.kind == DUAL_ENCODER:
            # a folder's own name may have an @: the last one counts
            revision = f"@{first.revision}" if first.revision or "@" in first.model else ""
            found["clip_i"] = _written("likeness", f"{first.model}{revision}", references)
        found["dino"] = _written("likeness", model, references)
    if trained.value:
        found["copied"] = _written("copied", model, trained)
    for name, entry in found.items():
        if taken := given.get(f"{sources.SCORERS}.{name}"):
            problem = f"{name!r} is what {entry.key} is scored by"
            raise taken.error(problem, fix="give this scorer another name")
    return {f"{sources.SCORERS}.{name}": entry for name, entry in found.items()}


def _written(kind: str, model: str, folder: Given) -> Given:
    return folder.but(f"{kind}:{model}?{IMAGES}={quote(str(folder.value))}")
