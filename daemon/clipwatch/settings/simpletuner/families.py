"""Which base model a family and a flavour of the trainer mean, and which cannot be scored."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.settings.simpletuner.tables import Family, Flavour, Table, pipelines, table, versions
from clipwatch.settings.values import Given

_PRIOR = "the trainer's part of it, the prior, makes no pixels"
_MAKES = {"audio": "it makes sound", "video": "it makes video"}
REFINER = "refiner-"
"""Flavours that go on with another model's pictures."""

_PIPELINE = '"clipwatch": {"pretrained_model_name_or_path": "..."}'


@dataclass(frozen=True, slots=True)
class Model:
    """What model_family and model_flavour mean.

    Attributes:
        family: None for one that no table has.
        flavour: The one whose rules hold. None where there is none of that name, or none is named
            and none is the default, or the trainer's base model is named without one.
    """

    family: Family | None = None
    flavour: Flavour | None = None

    @property
    def name(self) -> str:
        """The family's name in the tables, "" for none."""
        return self.family.name if self.family else ""

    @property
    def usual(self) -> Flavour | None:
        """The flavour, else the family's usual one: they mostly agree."""
        if self.flavour or self.family is None:
            return self.flavour
        first = next(iter(self.family.flavours), "")
        return self.family.flavour(self.family.default or first)

    @property
    def flow(self) -> bool:
        """The family predicts a flow."""
        return self.family is not None and self.family.flow


def named(known: Table, family: Given, flavour: Given, base: Given) -> Model:
    """Return what model_family and model_flavour mean by a table."""
    found = known.family(family.value) if family.value else None
    if found is None:
        return Model()
    if (
        base.trainers and base.value and not flavour.value
    ):  # setup_model_flavour in models/common.py
        return Model(found)
    return Model(found, found.flavour(flavour.value or found.default))


def check(known: Table, model: Model, family: Given, flavour: Given, base: Given) -> None:
    """Refuse what nobody knows, or cannot make pictures from text alone, or not with diffusers.

    Args:
        known: The table that holds.
        model: What the two keys mean by it.
        family: model_family.
        flavour: model_flavour.
        base: pretrained_model_name_or_path; named for clipwatch alone it is taken at its word.

    Raises:
        SettingsError: Says what the family makes, or what is missing and what to do.
    """
    found, variant = model.family, model.flavour
    if found is None:
        if family.value:
            message, fix = _unknown(known, family.value)
            raise family.error(message, fix=fix)
        return
    if makes := _MAKES.get(found.modality):
        raise family.error(f"{family.value!r} is not a text-to-image family: {makes}")
    if found.name == "stable_cascade":
        raise family.error(f"{family.value!r} is not a text-to-image family: {_PRIOR}")
    if variant is not None and variant.edits:
        raise flavour.error(
            f"{variant.name!r} starts from pictures, and clipwatch has only prompts"
        )
    if variant is not None and variant.name.startswith(REFINER):
        going_on = "goes on with another model's pictures"
        raise flavour.error(f"{variant.name!r} {going_on}, and clipwatch has only prompts")
    version, exported = pipelines()
    pipeline = model.usual.pipeline if model.usual else ""
    if pipeline and pipeline not in exported and (base.trainers or not base.value):
        raise family.error(
            f"{family.value!r} cannot be scored: SimpleTuner {known.version} brings its own "
            f"{pipeline}, which diffusers {version} does not have",
            fix=f"name a pipeline that diffusers can load, if there is one: {_PIPELINE}",
        )


def repository(known: Table, model: Model, family: Given, flavour: Given, missing: Given) -> Given:
    """Return the family's base model, with its source, for want of one in `missing`.

    Raises:
        SettingsError: Nothing is known for this family and flavour; says which key to set.
    """
    fix = f'set "{missing.key}" to the diffusers pipeline that is trained'
    if model.family is None:
        raise missing.error("is missing, and so is model_family", fix=fix)
    if model.flavour is None:
        flavours = ", ".join(model.family.flavours)
        if not flavour.value:
            message = f"{family.value!r} has no default base model"
            raise family.error(message, fix=f"set model_flavour (known: {flavours}), or {fix}")
        message = f"{flavour.value!r} has no known base model"
        since = _elsewhere(known, model.name, flavour.value)
        raise flavour.error(f"{message} (known: {flavours}{since})", fix=fix)
    source = f"{flavour.source} (model_flavour)" if flavour.value else f"default for {family.value}"
    return Given(model.flavour.model, source, missing.key, missing.file)


def of_no_flavour(known: Table, model: Model, flavour: Given) -> tuple[str, ...]:
    """Tell of a flavour that the family has not: with a base model named the trainer goes on."""
    if model.family is None or not flavour.value or model.flavour:
        return ()
    flavours = ", ".join(model.family.flavours)
    since = _elsewhere(known, model.name, flavour.value)
    message = f"{model.name} has no flavour {flavour.value!r} (known: {flavours}{since})"
    return (flavour.told(f"{message}: the rules of the family hold"),)


def _unknown(known: Table, name: str) -> tuple[str, str]:
    """Say that there is no such family, and what to do."""
    unknown = f"SimpleTuner {known.version} has no family {name!r}"
    for version in reversed(versions()):
        if version != known.version and table(version).family(name):
            asked = f'"clipwatch": {{"simpletuner_version": "{version}"}}'
            return f"{unknown}, but {version} has", f"set {asked}"
    near = known.near(name)
    guess = f"did you mean {near!r}? Or " if near else ""
    return unknown, f'{guess}go without one by "clipwatch": {{"model_family": "none"}}'


def _elsewhere(known: Table, family: str, flavour: str) -> str:
    for version in versions():
        other = table(version).family(family)
        if version != known.version and other and other.flavour(flavour):
            return f"; SimpleTuner {version} has it: set simpletuner_version"
    return ""
