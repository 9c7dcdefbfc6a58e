"""EveryDream2: NAME_main.json beside the folder of checkpoints, and its sample prompts.

Source: EveryDream2trainer, train.py (its arguments are written there) and
utils/sample_generator.py.
"""

from __future__ import annotations

from clipwatch.settings.trainers import documents, samplers
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.left import (
    CLIP_SKIP,
    GUIDANCE,
    NEGATIVE,
    SAMPLER,
    SEED,
    SIZE,
    SPACING,
    STEPS,
    Left,
    defaults,
    size,
)
from clipwatch.settings.trainers.place import Place, is_file, matching
from clipwatch.settings.values import Given

_CONFIG = r".*_main\.json"
_USUAL = {STEPS: 30, GUIDANCE: 7, NEGATIVE: "", SAMPLER: "ddim", SPACING: "leading"}
_SIDE = 512


def read(place: Place) -> Left:
    """Read the newest of its files in the folder of a run, or above that of its checkpoints."""
    folders = dict.fromkeys(it for root in place.roots for it in (root, root.parent))
    paths = [it for folder in folders for it in matching(folder, _CONFIG)]
    found, remarks = documents.read_all(paths)
    for config in found:
        if isinstance(config.at("resume_ckpt"), str):
            return _left(config, place, tuple(remarks))
    return Left(remarks=tuple(remarks))


def _left(config: Document, place: Place, remarks: tuple[str, ...]) -> Left:
    keys = defaults("EveryDream2", _USUAL)
    side = config.given("resolution")
    if side:
        keys[SIZE] = side.but(size(side.value, side.value))
    seed = config.given("seed")
    if seed:
        keys[SEED] = seed
    prompts = config.given("sample_prompts")
    file = place.file(str(prompts.value), config.file) if prompts else None
    if file and file.suffix.lower() == ".json" and is_file(file):
        samples, more = documents.read_all([file])
        for own in samples:
            found, told = _own(own)
            keys |= found
            remarks += told
        remarks += tuple(more)
    elif file is None and prompts and str(prompts.value) == "sample_prompts.txt":
        prompts = None  # the default, which it needs not have
    skip = config.given("clip_skip")
    if skip and skip.value:  # as sd-scripts counts: 2 is the last but one
        keys[CLIP_SKIP] = skip
    sides = (_SIDE, _SIDE)
    if side and isinstance(side.value, int):
        sides = (side.value, side.value)
    return Left(
        "everydream2", keys, config.given("resume_ckpt"), prompts, sides=sides, remarks=remarks
    )


def _own(samples: Document) -> tuple[dict[str, Given], tuple[str, ...]]:
    """Return what a file of samples says for all of them, and what of it is not followed."""
    keys, remarks = {}, tuple[str, ...]()
    for path, key in (
        (("cfgs", 0), GUIDANCE),
        (("num_inference_steps",), STEPS),
        (("seed",), SEED),
    ):
        if (value := samples.at(*path)) is not None:
            keys[key] = samples.say(value, *path)
    side = samples.given("resolution")
    if side:
        keys[SIZE] = side.but(size(side.value, side.value))
    if scheduler := samples.given("scheduler"):
        found, remarks = samplers.named(scheduler, spaced=True)
        keys |= found
    return keys, remarks
