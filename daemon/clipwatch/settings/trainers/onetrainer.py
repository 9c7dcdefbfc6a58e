"""OneTrainer: config/*.json and the newest backup of a workspace, and what its weights say.

Source: OneTrainer, modules/util/config/TrainConfig.py and SampleConfig.py, and
modules/trainer/GenericTrainer.py (__save_backup_config).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from clipwatch.settings.trainers import documents
from clipwatch.settings.trainers.architectures import NOISE, family, usual_sampling
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.left import (
    CLIP_SKIP,
    GUIDANCE,
    NEGATIVE,
    SAMPLER,
    SEED,
    SIZE,
    STEPS,
    Left,
    defaults,
    size,
)
from clipwatch.settings.trainers.place import Place, is_file, matching, names
from clipwatch.settings.values import Given

_NAME = "onetrainer"
_SAVE, _BACKUP, _INNER = "save", "backup", "onetrainer_config"
_ARGUMENTS, _SAMPLES = "args.json", "samples.json"
_NEWEST = 3  # backups; the very newest may be half written
_USUAL = {SIZE: size(512, 512), STEPS: 20, SEED: 42, NEGATIVE: ""}
_NOISE = {GUIDANCE: 7, SAMPLER: "ddim"}
_SWITCHES = {
    "force_v_prediction": ("prediction_type", "v_prediction"),
    "rescale_noise_scheduler_to_zero_terminal_snr": ("rescale_betas_zero_snr", True),
}
_SIDE = re.compile(r"\d{2,5}", re.ASCII)
_SKIPPING = ("sd1x", "sd2x")
_SKIPS = ("text_encoder_layer_skip", "text_encoder_2_layer_skip")


def read(place: Place) -> Left:
    """Read the newest configuration of the workspace, or what a file of weights has of it."""
    found, _ = documents.read_all(_files(place))
    for config in (*found, *_embedded(place)):
        if isinstance(config.at("base_model_name"), str) and "model_type" in config.values:
            return _left(config)
    its = any(name.startswith("ot_") for name in place.metadata)
    return Left(_NAME if its else "")


def _files(place: Place) -> list[Path]:
    """Return the configurations of a workspace, of which one of its folders may be named."""
    found: list[Path] = []
    for root in place.roots:
        workspace = root.parent if root.name in (_SAVE, _BACKUP) else root
        backups = [workspace / _BACKUP / it for it in names(workspace / _BACKUP)[0]]
        inner = [it / _INNER / _ARGUMENTS for it in (root, *backups[:_NEWEST])]
        found += [it for it in inner if is_file(it)]
        found += matching(workspace / "config", r".*\.json")
    return found


def _embedded(place: Place) -> Iterator[Document]:
    """Yield what the newest weights have of their training, if it was asked for."""
    try:
        values = json.loads(place.metadata.get("ot_config", "null"))
    except (ValueError, RecursionError):
        return
    if place.weights and isinstance(values, dict):
        yield Document(place.weights, "", values)


def _left(config: Document) -> Left:
    known = family(config.at("model_type"))
    keys = usual_sampling(known)
    keys |= defaults("OneTrainer", _USUAL | (_NOISE if known in NOISE else {}))
    for name, (key, value) in _SWITCHES.items():
        if config.at(name) is True:
            keys[key] = config.say(value, name)
    first, *skips = (it if it and it.value else None for it in map(config.given, _SKIPS))
    if first and known in _SKIPPING and isinstance(first.value, int):
        keys[CLIP_SKIP] = first.but(first.value + 1)
    elif first:
        skips.append(first)
    told = "is not followed: clipwatch has the text encoder's own last layer"
    return Left(
        _NAME,
        keys,
        config.given("base_model_name"),
        _prompts(config),
        known,
        _trained(config),
        remarks=tuple(it.told(told) for it in skips if it),
    )


def _trained(config: Document) -> Given | None:
    side = config.given("resolution")
    if side is None or not _SIDE.fullmatch(str(side.value)):
        return None  # several, in one text
    return side.but(size(side.value, side.value))


def _prompts(config: Document) -> Given | None:
    """Return where the samples are: beside a backup's configuration, in it, or where it says."""
    beside = config.file.with_name(_SAMPLES)
    if config.file.name == _ARGUMENTS and is_file(beside):
        return config.say(str(beside), "samples")
    if config.at("samples") and config.text:
        return config.say(str(config.file), "samples")
    named = config.given("sample_definition_file_name")
    return named if named and named.value else None
