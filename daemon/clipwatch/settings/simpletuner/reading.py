"""A configuration of the trainer, assessed before anything else: whose it is, what it trains."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from clipwatch.kit.textfiles import plain, refused
from clipwatch.models.precisions import PRECISIONS, lacking
from clipwatch.settings.jsonc import Document
from clipwatch.settings.simpletuner import answers, families, installed
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.simpletuner.installed import Installed
from clipwatch.settings.simpletuner.options import written
from clipwatch.settings.simpletuner.tables import Table, every_option, nearest, table, versions
from clipwatch.settings.sources import OWN_FILE, SCORERS
from clipwatch.settings.values import Given

Values = Mapping[str, Given]

_KOHYA = frozenset(
    ("LoRA_type", "network_dim", "network_alpha", "output_name", "train_data_dir",
     "save_every_n_epochs", "save_model_as", "sample_every_n_steps", "sample_sampler",
     "max_resolution", "v_parameterization", "log_with")
)  # fmt: skip
_CERTAIN = 3  # keys of kohya_ss that make a file one of its own


_NO_TENSORBOARD = ("4.9.3", "4.10.0", "4.10.1")
"""Versions that end with an error as they set up that tracker; 4.8.0 and 4.9.0 go on (tried)."""

_CLOSED = ("model_type", "lora_type", "lora_format", "lora_init_type")
"""Options of few choices that other trainers may have under the same name with choices of their
own, so that no reader checks them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a trainer's configuration is about.

    Attributes:
        simpletuner: It is SimpleTuner's.
        version: simpletuner_version, as it was named or found.
        table: What that version says of its families.
        model: The family and the flavour.
        installed: The SimpleTuner that is here, None for none.
        datasets: data_backend_config as it stands there, None for none.
        remarks: What is set and not followed, a line each.
    """

    simpletuner: bool
    version: Given
    table: Table
    model: Model
    installed: Installed | None
    datasets: Given | None
    remarks: tuple[str, ...]


def assessed(
    document: Document,
    given: Values,
    environ: Mapping[str, str],
    cwd: Path,
    trackers: Collection[str],
) -> Reading:
    """Return what a configuration is about; what cannot be scored ends here, before any path.

    Raises:
        SettingsError: It is another program's, or trains what makes no pictures from text.
    """
    _check_owner(document)
    family, flavour = given["model_family"], given["model_flavour"]
    base = given["pretrained_model_name_or_path"]
    simpletuner = of_simpletuner(given)
    found = installed.find(given["simpletuner_path"], environ, cwd)
    version = _version(given["simpletuner_version"], found)
    holds = nearest(version.value)
    known = table(holds)
    model = families.named(known, family, flavour, base)
    families.check(known, model, family, flavour, base)
    ours = {*given, *(name.partition(".")[0] for name in given), *trackers, SCORERS}
    keys = written(document, environ)
    for name in _CLOSED:
        if name in given and (simpletuner or not given[name].trainers):
            _check_choice(name, given[name])
        elif simpletuner:
            _check_choice(name, *keys.get(name, [])[-1:])
    remarks = [*answers.assessed(keys, ours, model.name)]
    if base.value:  # without one it ends the start
        remarks += families.of_no_flavour(known, model, flavour)
    if simpletuner:
        variant = model.flavour.name if model.flavour else ""
        notes = answers.of_family(model.name, variant)
        remarks += [f"{family.source}: {model.name}: {note}" for note in notes]
        if holds != version.value:
            stands_in = f"clipwatch knows {' and '.join(versions())}, and goes by {holds}"
            remarks.append(version.told(f"of SimpleTuner {stands_in} for {version.value}"))
    if simpletuner and isinstance(document.values.get("config"), dict):
        where = plain(f"{document.file.name}:{document.lines['config',]}")
        remarks.append(f"{where}: config: what stands in it is not read: others stand beside it")
    if simpletuner and found:
        remarks += _shared(keys, found.version)
    _check_extra(given["lora_type"])
    *_, datasets = keys.get("data_backend_config", [None])
    if datasets is not None:
        datasets = replace(datasets, trainers=True)
    if holds != version.value:
        version = version.but(version.value, f"by {holds}'s table")
    return Reading(simpletuner, version, known, model, found, datasets, tuple(remarks))


def of_simpletuner(given: Values) -> bool:
    """Whether a configuration is SimpleTuner's: none of its own is without a family."""
    return bool(given["model_family"].value) and given["model_family"].trainers


def precision(given: Values) -> tuple[Given, tuple[str, ...]]:
    """Return how the base is quantised, "" for not at all, and what is to be told.

    As the trainer does with a LoRA (default_settings/safety_check.py); base_precision overrides.

    Raises:
        SettingsError: A package lacks; says which extra has it.
    """
    own, trained = given["base_precision"], given["base_model_precision"]
    chosen, remarks = own, []
    if own.value is None:
        chosen = trained
        if trained.value in ("no_change", "none"):
            chosen = trained.but("none")
        elif (trains := given["model_type"].value) not in ("", "lora"):
            told = f"is for a LoRA: with model_type {trains} the base stays in full precision"
            remarks.append(trained.told(told))
            chosen = trained.but("none")
        elif trained.value not in PRECISIONS:
            text = f"clipwatch cannot quantise by {trained.value}: the base stays in full precision"
            remarks.append(trained.told(f"{text}, which needs more memory"))
            chosen = trained.but("none", "not known here")
    if chosen.value == "none":
        return chosen.but(""), tuple(remarks)
    if library := lacking(chosen.value):
        raise chosen.error(
            f"{chosen.value} needs a package",
            fix=f"pip install 'clipwatch[{library}]', or set "
            '"clipwatch": {"base_precision": "none"}',
        )
    return chosen, tuple(remarks)


def _shared(keys: Mapping[str, list[Given]], version: str) -> Iterator[str]:
    """Yield what the trainer does by keys that are meant for clipwatch, also where ours differ."""
    move = 'move it into the object "clipwatch"'
    for given in keys.get("evaluation_type", [])[-1:]:
        if str(given.value).lower() == "clip":
            own = "SimpleTuner takes it too, and scores by itself while the training waits"
            yield given.told(f"{own}: {move}")
    for given in keys.get("report_to", [])[-1:]:
        if given.value == "tensorboard" and version in _NO_TENSORBOARD:
            yield given.told(f"SimpleTuner {version} does not start with tensorboard: {move}")


def _version(named: Given, found: Installed | None) -> Given:
    """Return whose defaults hold: of the version that is named, installed, or known as newest."""
    if named.value:
        return named
    if found and found.version:
        return Given(found.version, f"SimpleTuner {found.source}", named.key, named.file)
    return Given(versions()[-1], "the newest that clipwatch knows", named.key, named.file)


def _check_owner(document: Document) -> None:
    """Refuse a configuration of kohya_ss's GUI, which shares some names.

    Raises:
        SettingsError: Says what it is, and what to write.
    """
    keys = {key.strip().lstrip("-") for key in document.values}
    if document.file.name == OWN_FILE or "model_family" in keys:
        return
    if len(keys & _KOHYA) >= _CERTAIN:
        raise refused(
            "is a configuration of kohya_ss's GUI and not SimpleTuner's",
            fix="write a clipwatch.json "
            "with output_dir and pretrained_model_name_or_path, and name that with --config",
            file=document.file,
        )


def _check_choice(name: str, *written: Given) -> None:
    """Refuse what no version of the trainer takes, and starts with.

    Raises:
        SettingsError: Names what it takes.
    """
    choices = [str(it) for it in every_option()[name]["choices"]]
    for given in written:
        value = str(given.value or "").strip()
        if value and value not in choices:
            near = difflib.get_close_matches(value, choices, n=1)
            guess = f"did you mean {near[0]!r}?" if near else ""
            raise given.error(f"must be {' or '.join(choices)}, not {given.shown!r}", fix=guess)


def _check_extra(lora_type: Given) -> None:
    """Refuse what needs a package that is not here.

    Raises:
        SettingsError: Says which extra has it.
    """
    if lora_type.value == "lycoris" and find_spec("lycoris") is None:
        raise lora_type.error(
            "lycoris needs a package",
            fix="pip install 'clipwatch[lycoris]', or all checkpoints would be left out",
        )
