"""diffusers' scripts, PEFT, and whole pipelines: arguments beside the logs, and configs.

Source: accelerate, tracking.py (store_init_configuration writes hparams.yml); diffusers' ModelMixin
and DiffusionPipeline (_name_or_path); PEFT's adapter_config.json; diffusers'
examples/consistency_distillation, whose arguments have a teacher in place of a base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from clipwatch.kit.textfiles import plain
from clipwatch.layouts.contents import LCM
from clipwatch.settings.trainers import documents, samplers
from clipwatch.settings.trainers.architectures import NOISE, family, usual_sampling
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.left import BASE, SAMPLER, SEED, SIZE, Left, defaults, size
from clipwatch.settings.trainers.place import Place, is_file, is_folder, matching, names
from clipwatch.settings.values import Given

_NAME: Final = "diffusers_script"
_CHECKPOINT = re.compile(r"checkpoint-\d+", re.ASCII)
_ADAPTER, _PEFT = "adapter_config.json", "base_model_name_or_path"
_CONFIGS: Final = (
    ("model_index.json", "_name_or_path"),
    (_ADAPTER, _PEFT),
    ("unet/config.json", "_name_or_path"),
    ("transformer/config.json", "_name_or_path"),
)
_NEWEST: Final = 3  # checkpoints that are asked
_DENOISER = re.compile(r"[\\/](unet|transformer)[\\/]?$")
_OWN: Final = {
    "validation_prompt": "validation_prompt",
    "seed": SEED,
    "revision": "revision",
    "variant": "variant",
}
"""Arguments that are keys of ours."""

_OF_LCM: Final = defaults("its distillation", {SAMPLER: "lcm"})

_IMAGES: Final = "num_validation_images"  # of the one prompt
_TEACHER: Final = "pretrained_teacher_model"
_LCM: Final = (
    "a latent consistency model is distilled here: pictures are made with LCM's sampler, in 4 steps"
    " and without guidance, unless something else is set"
)


def read(place: Place) -> Left:
    """Read the arguments of the script, and else what the newest checkpoint was made from."""
    found, remarks = documents.read_all(_arguments(place))
    for arguments in found:
        if arguments.at("model_family"):
            return Left()  # SimpleTuner's, whose own configuration is read by its own rules
        for name in (BASE, _TEACHER):
            if isinstance(arguments.at(name), str):
                return _left(arguments, name, tuple(remarks))
    base = next(_bases(place), None)
    lcm = next((it for root in place.roots for it in _folders(root) if is_folder(it / LCM)), None)
    if lcm:
        remarks = [*remarks, f"{plain(lcm.name)}/{LCM}: {_LCM}"]
    if base is None and not lcm:
        return Left(remarks=tuple(remarks))
    known = family(base.value if base else "")
    keys = usual_sampling(known) | (_OF_LCM if lcm else {})
    return Left(_NAME, keys, base, family=known, remarks=tuple(remarks))


def _arguments(place: Place) -> Iterator[Path]:
    """Yield hparams.yml of logs/<tracker's project>/<time>/, the newest first."""
    for root in place.roots:
        logs = root / "logs"
        runs = [logs / name / run for name in names(logs)[0] for run in names(logs / name)[0]]
        files = [it / "hparams.yml" for it in runs if is_file(it / "hparams.yml")]
        yield from sorted(files, key=lambda it: it.parent.name, reverse=True)


def _left(arguments: Document, name: str, remarks: tuple[str, ...]) -> Left:
    base = arguments.given(name)
    project = arguments.file.parent.parent.name
    known = family(base.value if base else "", project) or "sd1x"
    keys = usual_sampling(known)
    if base and name == _TEACHER:
        keys |= {SAMPLER: base.but("lcm", "of its distillation")}
        remarks += (base.told(_LCM),)
    for argument, key in _OWN.items():
        given = arguments.given(argument)
        if given is not None and given.value != "":
            keys[key] = given
    if images := arguments.given(_IMAGES) if "validation_prompt" in keys else None:
        keys[_IMAGES] = images
    side = arguments.given("resolution")
    if side is not None:
        keys[SIZE] = side.but(size(side.value, side.value))
    sampler = arguments.given("validation_scheduler")
    if sampler is not None and known in NOISE:
        found, more = samplers.named(sampler, spaced=False)
        keys |= {SAMPLER: found[SAMPLER]}
        remarks += more
    return Left(_NAME, keys, base, family=known, remarks=remarks)


def _bases(place: Place) -> Iterator[Given]:
    """Yield what configs and files of weights say that they were made from."""
    for root in place.roots:
        for folder, (name, key) in ((it, config) for it in _folders(root) for config in _CONFIGS):
            if is_file(folder / name):
                for config in documents.read_all([folder / name])[0]:
                    yield from _named(config, key)
    if place.weights:
        adapter = _object(place.metadata.get("lora_adapter_metadata", "{}"))
        told = Document(place.weights, "", adapter)
        for key in (it for it in adapter if it.endswith(f".{_PEFT}")):
            yield from _named(told, key)


def _folders(root: Path) -> list[Path]:
    """Return the folder itself, and those of the newest checkpoints in it."""
    below = [it / name for it in (root, root / "save") for name in names(it)[0]]
    return [root, *[it for it in below if _is_checkpoint(it)][:_NEWEST]]


def _is_checkpoint(folder: Path) -> bool:
    return bool(_CHECKPOINT.fullmatch(folder.name)) or bool(matching(folder, r".*\.json"))


def _named(config: Document, key: str) -> Iterator[Given]:
    given = config.given(key)
    if given is not None and isinstance(given.value, str) and given.value:
        yield given.but(_DENOISER.sub("", given.value))


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, dict) else {}
