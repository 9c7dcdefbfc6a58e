"""Scorers that hold an image against images, not against its prompt: which models serve, files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.layouts.files import NotWhole
from clipwatch.models import dual_encoders
from clipwatch.models.kinds import ScorerKind
from clipwatch.statistics.scale import COSINE, Near, Scale

ENCODERS: Final = {"dinov2": "Bit", "dinov2_with_registers": "Bit", "vit": "ViT"}
"""Type of a model that reads images alone, by its class token -> the image processor of its kind.
DINO of the DreamBooth paper is a "vit" (facebook/dino-vits16). Of dual encoders the image tower
serves, too."""

IMAGES: Final = "images"
"""The option that names the folder."""

PROCESSORS: Final = ("preprocessor_config.json", "processor_config.json")


def refusal(model_type: object) -> str | None:
    """Say of "it" why a model of this type cannot see likeness; None if it can."""
    known = {**ENCODERS, **dual_encoders.KINDS}
    if model_type in known:
        return None
    return f"is of the type {model_type!r}; the types that can see likeness are {', '.join(known)}"


def files(folder: Path) -> list[Path]:
    """Return the files of a model that reads images, all of them there.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    found = dual_encoders.model_files(folder, refusal)
    if not any((folder / name).is_file() for name in PROCESSORS):
        raise NotWhole(f"its {PROCESSORS[0]} is missing")
    return found


def scale(spec: ScorerSpec, told: str = "") -> Scale:  # noqa: ARG001 - the kind's interface
    """Return the scale of cosines; which difference matters to people nobody has measured."""
    return COSINE


def scale_of_copies(spec: ScorerSpec, told: str = "") -> Scale:  # noqa: ARG001 - as above
    """Return the same, with what the loaded scorer `told` of from where on an image is too near."""
    near = None
    with suppress(ValueError):
        bound, usual, of, reached = told.split()
        near = Near(float(bound), int(usual), int(of), float(reached))
    return replace(COSINE, near=near)


def told(near: Near) -> str:
    """Return it as a text, for `scale_of_copies`."""
    return f"{near.bound:.6f} {near.usual} {near.of} {near.reached:.3f}"


_MODULE: Final = "clipwatch.evaluator.scorers.likeness"

LIKENESS: Final = ScorerKind(f"{_MODULE}:Likeness", scale, files, IMAGES)
"""The mean of an image's cosines to all images of a folder."""

COPIED: Final = ScorerKind(f"{_MODULE}:Copied", scale_of_copies, files, IMAGES)
"""Its highest cosine to one of them."""
