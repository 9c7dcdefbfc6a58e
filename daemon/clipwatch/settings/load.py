"""From files, environment and flags to the settings of a run."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from clipwatch.domain.names import run_id
from clipwatch.domain.protocol import EvaluationProtocol, Part, Prompt, ScorerSpec
from clipwatch.kit import plugins
from clipwatch.kit.addresses import address, wrong
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.statedir import default_state_dir
from clipwatch.kit.textfiles import problem, refused
from clipwatch.models.scorers import scale_of
from clipwatch.settings import (
    accelerator,
    alone,
    derived,
    ends,
    holdout,
    likeness,
    prompts,
    questions,
    scorers,
    sources,
    unfollowed,
    usual,
)
from clipwatch.settings.asked import Pictures, Sampling
from clipwatch.settings.holdout import HeldOut
from clipwatch.settings.keys import built
from clipwatch.settings.parts import Paths
from clipwatch.settings.places import Places, below, mode
from clipwatch.settings.settings import Settings
from clipwatch.settings.simpletuner import (
    bases,
    code,
    datasets,
    families,
    forms,
    options,
    parts,
    reading,
)
from clipwatch.settings.simpletuner.reading import Reading
from clipwatch.settings.simpletuner.rules import follow, skip_layers, strength
from clipwatch.settings.values import Given, Setting, text


def load(
    config: Path | None,
    *,
    flags: Mapping[str, Any] = MappingProxyType({}),
    unless: Mapping[str, Given] = MappingProxyType({}),
    environ: Mapping[str, str],
    cwd: Path,
) -> Settings:
    """Read the trainer's configuration and everything that is laid over it.

    Args:
        config: SimpleTuner's config.json, config.toml or config.env, a clipwatch.json, or the
            folder of one; None for none, so that the flags must say all that nothing else tells.
        flags: What the command line sets, by the names of the keys.
        unless: What holds of keys that nobody sets.
        environ: The environment variables.
        cwd: The directory of the call, absolute.

    Raises:
        SettingsError: Something is wrong or missing; names the file, the line and the key.
    """
    installed = plugins.names(plugins.TRACKERS)
    document = alone.NO_CONFIG
    if config is not None:
        document = forms.read(_config_file(below(cwd, str(config))))
    config = cwd / document.file
    written = options.for_clipwatch(document, environ)
    given = sources.collect(document, written, flags, environ, installed)
    given |= sources.beneath(given, unless.items())
    found = alone.found(given, config, cwd)
    given |= found.values
    about = reading.assessed(document, given, environ, cwd, installed)
    given |= _of_trainer(given, about)
    derived.check_evaluation(given)
    places = Places.of(
        config, cwd, given["working_dir"], about.installed.package if about.installed else None
    )
    chosen, library, file = prompts.choose(given, places, about.installed)
    prompts.check_number(chosen.prompts, given["num_validation_images"])
    given |= {"validation_prompt_library": library}
    models = [it for name, it in given.items() if name.endswith(_MODEL) and it.value]
    unlikely = [line for it in models for line in places.unlikely(it)]
    alone.check(given, about.model, found, config=document.there)
    given |= _places(given, places, about)
    given |= usual.for_lcm(given)
    if not document.there:
        given |= alone.fitting(given, about.model, unlikely)
    given |= likeness.asked(given, places)
    specs = scorers.of_settings(given, places)
    scorers.check_prompts(given, specs, [it.text for it in chosen.prompts])
    asked = questions.kept(given, specs, chosen.prompts)
    given |= {scorers.FIRST: given[scorers.FIRST].but(str(specs[0]))}
    base = given["pretrained_model_name_or_path"]
    mismatch = bases.remark(about.model, given["model_family"], base)
    followed = follow(given, about.model)
    given |= followed.values
    elsewhere = parts.elsewhere(given, about.model, places, followed)
    given |= followed.values
    chosen_given, remarks = _choices(given, installed, _device(given["device"], environ), about)
    given |= chosen_given
    scale = scale_of(specs[0])
    for name, usual_bound in (("low", scale.poor), ("saturated", scale.saturated)):
        given |= {f"advice.{name}": derived.bound(given, f"advice.{name}", usual_bound)}
    if about.datasets:
        remarks += datasets.remark(about.datasets, about.model.name, places)
    _check_texts(given)
    derived.check_worth(given)
    ends.check_ends(given)
    derived.check_layout(given)
    remarks += derived.at_strengths(given, chosen.prompts, strength(given))
    named, sets, few = holdout.chosen(given, places)
    given |= named
    return built(
        Settings,
        given,
        config=config,
        paths=_paths(given),
        protocol=_protocol(given, about, asked, specs, elsewhere),
        holding=built(HeldOut, given, sets=sets),
        options=_options(given, installed),
        origins=_origins(given),
        remarks=(
            *found.remarks,
            *about.remarks,
            *unlikely,
            *mismatch,
            *followed.remarks,
            *remarks,
            *chosen.notes,
            *few,
            *(unfollowed.told(file, given) if file else ()),
        ),
        doubts=usual.doubts(given, about.model, elsewhere),
    )


_MODEL = "model_name_or_path"
"""How the names of all keys end that name a folder or a Hub id."""

_OUTPUT = "simpletuner-results"
"""Where SimpleTuner writes when nothing is named (its field registry)."""


_ADDRESS_SECONDS = 10.0
"""Between two looks at an address: about 9,000 a day, where the Hub lets a user ask for 1,000 pages
in five minutes, and a bucket costs cents."""


def _config_file(config: Path) -> Path:
    if os.path.isdir(config):  # noqa: PTH112 - Path's raises for a name that is too long
        for name in (*forms.NAMES, sources.OWN_FILE):
            if os.path.lexists(config / name):
                return config / name
        first, *others = forms.NAMES
        names = f"{first}, nor {' or '.join(others)}"
        raise refused(f"holds no {names}", fix="name the trainer's config file", file=config)
    if config.suffix in (".yaml", ".yml"):
        raise refused(f"{config.suffix} is not supported", fix="use JSON or TOML", file=config)
    return config


def _of_trainer(given: Mapping[str, Given], about: Reading) -> dict[str, Given]:
    """Return what a configuration of SimpleTuner leaves out, and what its family changes."""
    values = {"simpletuner_version": about.version.but(None)}
    if not about.simpletuner:
        return values
    output, attention = given["output_dir"], given["attention_mechanism"]
    for name, number in (("checkpoint_step_interval", 500), ("checkpoints_total_limit", 5)):
        if given[name].value is None:
            values[name] = given[name].but(number, "SimpleTuner's")
    values["simpletuner_version"] = about.version
    if not output.value:
        values["output_dir"] = output.but(_OUTPUT, "SimpleTuner's")
    if about.model.name == "sana" and attention.trainers:  # models/sana/model.py
        values["attention_mechanism"] = attention.but("diffusers", "sana has no other")
    if about.installed and given["simpletuner_path"].value:
        path = given["simpletuner_path"].but(about.installed.package)
        values["simpletuner_path"] = path
    instruction = given["sana_complex_human_instruction"]
    if about.model.name == "sana" and about.installed and instruction.value is None:
        told = code.instruction(about.installed.package)
        values[instruction.key] = instruction.but(told or None, f"of {about.installed.package}")
    return values


def _places(given: Mapping[str, Given], places: Places, about: Reading) -> dict[str, Given]:
    """Return the keys that name files, folders and models, with what they mean here."""
    output = given["output_dir"]
    if not output.value:
        raise output.error(
            "is missing", fix="name the folder in which the trainer leaves checkpoints"
        )
    state = given["state_dir"]
    state = state.but(places.path(state) if state.value else default_state_dir())
    folders = _of_address if address(output.value) else _of_folder
    return {
        "working_dir": given["working_dir"].but(places.working_dir),
        "state_dir": state,
        "pretrained_model_name_or_path": _base_model(given, places, about),
        **folders(given, state, places),
    }


def _of_folder(given: Mapping[str, Given], state: Given, places: Places) -> dict[str, Given]:
    """Return where the checkpoints lie, and the logs below them."""
    output, logging = given["output_dir"], given["logging_dir"]
    output = output.but(places.path(output))
    if (found := mode(output.value, output)) and not stat.S_ISDIR(found):
        raise output.error(f"{str(output.value)!r} is not a folder")
    if Path(os.path.realpath(state.value)).is_relative_to(os.path.realpath(output.value)):
        raise state.error(
            f"{str(state.value)!r} lies in output_dir, which clipwatch only reads", fix="move it"
        )
    return {"output_dir": output, "logging_dir": logging.but(output.value / logging.value)}


def _of_address(given: Mapping[str, Given], state: Given, _: Places) -> dict[str, Given]:
    """Return the same of an address, beside which nothing of ours lies."""
    output, logging, rescan = (given[it] for it in ("output_dir", "logging_dir", "rescan_seconds"))
    named, ends = address(output.value), given["exit_when_done"]
    if told := wrong(named):
        raise output.error(told[0], fix=told[1])
    if ends.value and (ends.value.export or not Path(ends.value.file or "/").is_absolute()):
        raise ends.error("looks into a folder, and output_dir is none", fix="use idle:SECONDS")
    if rescan.source == "default":
        rescan = rescan.but(_ADDRESS_SECONDS, "of an address")
    logs = state.value / "logs" / run_id(named)
    return {
        "output_dir": output.but(named),
        "logging_dir": logging.but(logs / logging.value, "below state_dir unless absolute"),
        "rescan_seconds": rescan,
    }


def _paths(given: Mapping[str, Given]) -> Paths:
    """Return the folders; what lies at an address is copied to one in the state directory."""
    output = given["output_dir"]
    if isinstance(output.value, Path):
        return built(Paths, given)
    copies = given["state_dir"].value / "copies" / run_id(output.value)
    return built(Paths, {**given, "output_dir": output.but(copies)}, address=output.value)


def _base_model(given: Mapping[str, Given], places: Places, about: Reading) -> Given:
    named = given["pretrained_model_name_or_path"]
    if named.value:
        return named.but(places.model(named))
    family, flavour = given["model_family"], given["model_flavour"]
    return families.repository(about.table, about.model, family, flavour, missing=named)


def _choices(
    given: Mapping[str, Given], installed: Sequence[str], processor: Given, about: Reading
) -> tuple[dict[str, Given], tuple[str, ...]]:
    """Return the keys that depend on others, or on this machine, and what is told of them."""
    project, run = given["tracker_project_name"], given["tracker_run_name"]
    named, skipped = derived.trackers(given, installed, _lacking)
    quantised, unknown = reading.precision(given)
    first = processor.value.partition(",")[0]  # all are of one kind
    dtype = derived.dtype({**given, "base_precision": quantised}, first)
    seed = derived.seed(given)
    remarks = (*skipped, *unknown, *derived.unknowable(given, seed))
    sizes = given["validation_resolution"]
    if len(sizes.value) > 1 and sizes.trainers:
        told = f"clipwatch scores the first of these sizes, {sizes.value[0]}"
        remarks += (sizes.told(told),)
    return {
        "base_precision": quantised,
        "device": processor,
        "dtype": dtype,
        "report_to": named,
        "tracker_project_name": derived.tracker_name(project, "simpletuner-training"),
        "tracker_run_name": derived.tracker_name(run, "simpletuner-training-run"),
        "vae_dtype": derived.vae_dtype(
            given, dtype, about.model.name, simpletuner=about.simpletuner
        ),
        "validation_resolution": derived.size(given),
        "validation_seed": seed,
        "weights": derived.weights(given),
    }, remarks


def _lacking(tracker: str) -> str:
    """Return what installs the package that an adapter lacks, "" where it lacks none."""
    try:
        plugins.load(plugins.TRACKERS, tracker)
    except SettingsError as error:
        return error.fix
    return ""


def _device(named: Given, environ: Mapping[str, str]) -> Given:
    if named.value != "auto":
        return named
    machine = platform.machine()
    return named.but(accelerator.found(environ, os.path.exists, sys.platform, machine), "auto")


def _protocol(
    given: Mapping[str, Given],
    about: Reading,
    chosen: tuple[Prompt, ...],
    scorers: tuple[ScorerSpec, ...],
    elsewhere: tuple[Part, ...],
) -> EvaluationProtocol:
    pictures, sampling = built(Pictures, given), built(Sampling, given)
    return EvaluationProtocol(
        prompts=chosen,
        width=sampling.size.width,
        height=sampling.size.height,
        scorers=scorers,
        parts=elsewhere,
        adapter_strength=derived.first_strength(given, strength(given)),
        skip_layers=skip_layers(sampling),
        rules="simpletuner" if about.simpletuner else "",
        **{it.name: getattr(pictures, it.name) for it in fields(Pictures)},
    )


def _options(given: Mapping[str, Given], installed: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the options of each tracker that has some."""
    options: dict[str, dict[str, str]] = {}
    for name, entry in sorted(given.items()):
        tracker, dot, option = name.partition(".")
        if dot and tracker in installed:
            options.setdefault(tracker, {})[option] = entry.value
    return options


def _check_texts(given: Mapping[str, Given]) -> None:
    """Refuse what the log cannot hold, now that names have become whole paths.

    Raises:
        SettingsError: Names the key; a path may have a byte that is not UTF-8.
    """
    for entry in given.values():
        if wrong := problem(text(entry.value)):
            raise entry.error(f"{entry.shown!r} {wrong[0]}", fix=wrong[1])


def _origins(given: Mapping[str, Given]) -> tuple[Setting, ...]:
    """Return what is set, sorted by key, without secrets."""
    return tuple(
        Setting(name, entry.shown, entry.source)
        for name, entry in sorted(given.items())
        if entry.value is not None
    )
