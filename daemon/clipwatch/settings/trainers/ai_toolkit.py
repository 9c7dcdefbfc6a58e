"""ai-toolkit: config.yaml in the folder of the job, and what its files of weights say.

Source: ai-toolkit 0.12, toolkit/config_modules.py (SampleConfig, ModelConfig) and
toolkit/metadata.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from clipwatch.kit.textfiles import plain
from clipwatch.prompts import yamlfiles
from clipwatch.settings.trainers import documents, samplers
from clipwatch.settings.trainers.architectures import NOISE, family, usual_sampling
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.left import (
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
from clipwatch.settings.trainers.place import Place, matching
from clipwatch.settings.values import Given

_NAME = "ai_toolkit"
_JOB = ("config", "process", 0)
_SAMPLE = (*_JOB, "sample")
_USUAL = {SIZE: size(512, 512), STEPS: 20, GUIDANCE: 7, SEED: 0, NEGATIVE: ""}
_DDPM = {SAMPLER: "ddpm"}
_KEYS = {
    "sample_steps": STEPS,
    "guidance_scale": GUIDANCE,
    "seed": SEED,
    "network_multiplier": "validation_adapter_strength",
}
_ARCHITECTURES = {"is_flux": "flux", "is_xl": "sdxl", "is_v2": "sd2x", "is_v3": "sd3"}


def read(place: Place) -> Left:
    """Read the job, where it lies beside its checkpoints."""
    paths = [it for root in place.roots for it in matching(root, r"config\.ya?ml")]
    found, remarks = documents.read_all(paths)
    jobs = [it for it in found if yamlfiles.process(it.values) and it.at(*_JOB, "model")]
    metadata = place.metadata if _is_its(place.metadata) else None
    if not jobs:
        if metadata is None:
            return Left(remarks=tuple(remarks))
        called = family(metadata.get("ss_base_model_version"))
        return Left(_NAME, usual_sampling(called), family=called, remarks=tuple(remarks))
    job, version = jobs[0], (metadata or {}).get("ss_base_model_version")
    known = _family(job, version)
    keys, more = _sampling(job, known)
    prompted = job.at(*_SAMPLE, "samples") or job.at(*_SAMPLE, "prompts")
    prompts = job.say(str(job.file), *_SAMPLE, "prompts") if prompted else None
    return Left(
        _NAME,
        keys,
        job.given(*_JOB, "model", "name_or_path"),
        prompts,
        known,
        sides=(_side(job, "width"), _side(job, "height")),
        remarks=(*remarks, *more, *_trigger(job, prompted=prompts is not None)),
    )


def _is_its(metadata: Mapping[str, str]) -> bool:
    try:
        software = json.loads(metadata.get("software", "null"))
    except (ValueError, RecursionError):
        return False
    return isinstance(software, dict) and software.get("name") == "ai-toolkit"


def _family(job: Document, version: str | None) -> str:
    model = job.at(*_JOB, "model")
    arch = model.get("arch") if isinstance(model, dict) else None
    flags = (it for name, it in _ARCHITECTURES.items() if job.at(*_JOB, "model", name) is True)
    return family(arch, next(flags, None), version) or ("" if arch else "sd1x")


def _sampling(job: Document, known: str) -> tuple[dict[str, Given], tuple[str, ...]]:
    keys = defaults("ai-toolkit", _USUAL | (_DDPM if known in NOISE else {}))
    remarks: tuple[str, ...] = ()
    for name, key in _KEYS.items():
        if given := job.given(*_SAMPLE, name):
            keys[key] = given
    sides = [job.given(*_SAMPLE, name) for name in ("width", "height")]
    if first := next(filter(None, sides), None):
        keys[SIZE] = first.but(size(_side(job, "width"), _side(job, "height")))
    negative = job.at(*_SAMPLE, "neg")
    if isinstance(negative, str):
        keys[NEGATIVE] = job.say(negative, *_SAMPLE, "neg")
    sampler = job.given(*_SAMPLE, "sampler")
    if sampler and known in NOISE:
        del keys[SAMPLER]
        more, remarks = samplers.named(sampler, spaced=False)
        keys |= more
    return keys, remarks


def _side(job: Document, name: str) -> int:
    value = job.at(*_SAMPLE, name)
    return value if isinstance(value, int) else 512


def _trigger(job: Document, *, prompted: bool) -> tuple[str, ...]:
    """Tell of a word that prompts need, where it stands in none of the training's."""
    word = job.given(*_JOB, "trigger_word")
    if word is None or not word.value:
        text = job.text if prompted else ""
        if any(place in text for place in yamlfiles.PLACES):
            where = plain(job.file.name)
            return (f"{where}: no trigger_word is set: [trigger] stands in prompts as written",)
        return ()
    if prompted:
        return ()
    return (word.told(f"prompts of your own need {word.value!r}, to which it was trained"),)
