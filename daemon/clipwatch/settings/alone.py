"""Checkpoints without a configuration of SimpleTuner's: what their folder and base model tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from clipwatch.kit.addresses import address
from clipwatch.kit.errors import SettingsError
from clipwatch.layouts.claims import FILES
from clipwatch.settings import sources, trainers, usual
from clipwatch.settings.jsonc import Document
from clipwatch.settings.places import Places
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.simpletuner.reading import of_simpletuner
from clipwatch.settings.values import Given

NO_CONFIG: Final = Document(Path(sources.OWN_FILE), {}, {}, there=False)
"""What is read where the call names no file."""

_FLAG: Final = trainers.FLAG
_BASE, _SIZE = "pretrained_model_name_or_path", "validation_resolution"
_SCORES: Final = "default without SimpleTuner"

Values = Mapping[str, Given]


class Told(NamedTuple):
    """Values of keys that nobody set, and what is said of them, a line each."""

    values: dict[str, Given]
    remarks: tuple[str, ...] = ()


def found(given: Values, config: Path, cwd: Path) -> Told:
    """Return what the training's own files tell; nothing beside a configuration of SimpleTuner's.

    Args:
        given: What was collected.
        config: The configuration's file.
        cwd: The directory of the call.

    Raises:
        SettingsError: A value that was found cannot be.
    """
    if of_simpletuner(given):
        return Told({})
    scores = Given("clip", _SCORES, "evaluation_type")
    layer = trainers.Found("", (), ())
    if given["output_dir"].value and not address(given["output_dir"].value):
        folder = Places.of(config, cwd, given["working_dir"]).path(given["output_dir"])
        files = [folder / name for name in given["layout_only"].value]
        layer = trainers.found(folder, files, apart=given["layout"].value == FILES)
    keys = (("evaluation_type", scores), *layer.keys)
    remarks = (it for it in layer.remarks if not (given[_BASE].value and _FLAG in it))
    return Told(sources.beneath(given, keys), tuple(remarks))


def check(given: Values, model: Model, told: Told, *, config: bool) -> None:
    """Ask for the base model where nothing names one.

    Args:
        given: The values.
        model: The family and flavour, where they are known.
        told: What was found; a remark of it that has the flag says which base was trained on.
        config: Whether there is a configuration, for which `families.repository` asks.

    Raises:
        SettingsError: With the flag.
    """
    if given[_BASE].value or model.flavour is not None:
        return
    for remark in told.remarks:
        if _FLAG in remark:
            raise SettingsError(remark)
    if not config:
        raise SettingsError(
            "no base model is known",
            fix=f"name it with {_FLAG}, as a folder of diffusers or an id of the Hub",
        )


def fitting(given: Values, model: Model, unlikely: Sequence[str]) -> dict[str, Given]:
    """Return size, steps and guidance that suit the base model, of which nobody set any.

    Args:
        given: The values.
        model: The family and flavour, where they are known.
        unlikely: What is said of models that may be mistyped.

    Raises:
        SettingsError: Nothing tells the size; with the flag.
    """
    values = usual.fitting(given, model)
    if given[_SIZE].source == "default" and _SIZE not in values:
        if mistyped := next((it for it in unlikely if _FLAG in it), None):
            raise SettingsError(mistyped)
        raise SettingsError(
            f"no size of pictures is known for {given[_BASE].value}",
            fix="name it with --size, as 512 or 1024x768",
        )
    return values
