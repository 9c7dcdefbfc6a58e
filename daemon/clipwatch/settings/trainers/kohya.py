"""sd-scripts, kohya_ss and FluxGym on top of it, and musubi-tuner: its options, and metadata.

Source: sd-scripts 0.10, library/train_util.py (sample_images_common, get_my_scheduler),
library/flux_train_utils.py and library/sai_model_spec.py; musubi-tuner has the like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clipwatch.kit.textfiles import plain
from clipwatch.settings.trainers import documents, samplers
from clipwatch.settings.trainers.architectures import NOISE, family, usual_sampling
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.kohya_files import options
from clipwatch.settings.trainers.left import (
    CLIP_SKIP,
    GUIDANCE,
    NEGATIVE,
    SAMPLER,
    SIZE,
    SPACING,
    STEPS,
    Left,
    defaults,
    size,
)
from clipwatch.settings.trainers.place import Place, is_blank, matching
from clipwatch.settings.values import Given

_SD, _MUSUBI = "sd-scripts", "musubi-tuner"
_SIDE: Final = {_SD: 512, _MUSUBI: 256}
_NOISE: Final = {STEPS: 30, GUIDANCE: 7.5, SAMPLER: "ddim", SPACING: "leading"}
_USUAL: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    (_SD, "sd1x"): _NOISE,
    (_SD, "sd2x"): _NOISE,
    (_SD, "sdxl"): _NOISE,
    (_SD, "sd3"): {STEPS: 30, GUIDANCE: 7.5},
    (_SD, "flux"): {STEPS: 20, GUIDANCE: 3.5},
    (_MUSUBI, "flux_kontext"): {STEPS: 20, GUIDANCE: 2.5},
    (_MUSUBI, "flux2"): {STEPS: 20, GUIDANCE: 4},
    (_MUSUBI, "qwen_image"): {STEPS: 20, GUIDANCE: 4},
    (_MUSUBI, "z_image"): {STEPS: 20},
}
_PROMPTS: Final = ("sample_prompts.txt", "sample/prompt.txt")
"""Where FluxGym and kohya_ss put them."""

_PARTS: Final = {
    "clip_g": "sd3",
    "gemma2": "lumina2",
    "byt5": "",
    "qwen3": "",
    "t5xxl": "flux",
    "sdxl": "sdxl",
    "v2": "sd2x",
}
"""Options that only the scripts of an architecture have, or the forms of kohya_ss."""

_SKIPPING: Final = ("sd1x", "sd2x")  # SDXL's encoders are always taken before their last layer

_SIZE = re.compile(r"\(?\s*(\d{2,5})\s*[x,]\s*(\d{2,5})\s*\)?", re.IGNORECASE)
_CHOSEN = ("True", "true", True)


def read(place: Place) -> Left:
    """Read the options where they lie, and else what the newest weights say."""
    its = _is_its(place.metadata)
    weights, metadata = (place.weights, place.metadata) if its else (None, {})
    config, unread = options(place, metadata.get("ss_output_name", ""))
    if config is None and weights is None:
        return Left(remarks=tuple(unread))
    told = _Told(config, weights, metadata)
    known = told.family
    keys = usual_sampling(known)
    keys |= defaults(told.whose, {NEGATIVE: "", **_USUAL.get((told.whose, known), {})})
    prompts = _prompts(config, place)
    side = _SIDE[told.whose]
    keys |= defaults(told.whose, {SIZE: size(side, side)})
    keys |= _predicted(told) if known in NOISE else {}
    skip = told.first("clip_skip", "ss_clip_skip")
    if skip and known in _SKIPPING and str(skip.value) not in ("0", "1"):
        keys[CLIP_SKIP] = skip
    more, remarks = _sampler(told, known)
    return Left(
        "kohya",
        keys | more,
        told.first("pretrained_model_name_or_path", "dit", "ss_sd_model_name"),
        prompts,
        known,
        told.trained,
        (side, side),
        both=True,
        remarks=(*unread, *remarks, *_not_followed(told, place, prompted=prompts is not None)),
    )


class _Told:
    """What options and metadata say, the options first: they have whole paths."""

    def __init__(
        self, config: Document | None, weights: Path | None, metadata: Mapping[str, str]
    ) -> None:
        self._config, self._weights, self._metadata = config, weights, metadata
        musubi = "ss_num_train_items" in metadata or (config and config.at("dit") is not None)
        self.whose = _MUSUBI if musubi else _SD

    def first(self, *names: str) -> Given | None:
        """Return the first of several that is said, whichever file says it."""
        for name in names:
            given = self._config.given(name) if self._config else None
            if given is None and (value := self._metadata.get(name)) not in (None, "", "None"):
                source = plain(self._weights.name) if self._weights else ""
                given = Given(value, source, name, self._weights, trainers=True)
            if given is not None and given.value != "":
                return given
        return None

    @property
    def family(self) -> str:
        """Of the metadata, else by the options; sd1x stands for all that are sampled like it."""
        get = self._metadata.get
        known = family(get("ss_base_model_version"), get("modelspec.architecture"))
        if known or self._config is None:
            return known
        known = family(self._config.at("network_module"))
        if self.whose == _MUSUBI and known == "flux":
            return "flux_kontext"  # the only one of FLUX.1 that it trains
        if not known and self.whose == _SD:
            at = self._config.at
            parts = (it for name, it in _PARTS.items() if at(name) not in (None, "", False))
            known = family(at("model_type")) or next(parts, "sd1x")
        return known

    @property
    def trained(self) -> Given | None:
        """The size of the training's pictures, as a size of samples."""
        for name in ("modelspec.resolution", "ss_resolution", "resolution"):
            given = self.first(name)
            if given and (found := _SIZE.fullmatch(str(given.value))):
                return given.but(size(found[1], found[2]))
        return None


def _is_its(metadata: Mapping[str, str]) -> bool:
    implementation = metadata.get("modelspec.implementation_version", "")
    return "ss_network_module" in metadata or implementation.startswith("sd-scripts")


def _prompts(config: Document | None, place: Place) -> Given | None:
    named = config.given("sample_prompts") if config else None
    if named and isinstance(named.value, str) and place.file(named.value, named.file):
        return named
    for root in place.roots:
        for file in (root / it for it in _PROMPTS):
            if not is_blank(file):
                return Given(str(file), plain(file.name), "sample_prompts", file, trainers=True)
    return named if named and named.value not in ("", True) else None


def _predicted(told: _Told) -> dict[str, Given]:
    keys = {}
    v = told.first("v_parameterization", "modelspec.prediction_type")
    if v and v.value in (*_CHOSEN, "v"):
        keys["prediction_type"] = v.but("v_prediction")
    zero = told.first("zero_terminal_snr", "ss_zero_terminal_snr")
    if zero and zero.value in _CHOSEN:
        keys["rescale_betas_zero_snr"] = zero.but(True)
    return keys


def _sampler(told: _Told, known: str) -> tuple[dict[str, Given], tuple[str, ...]]:
    named = told.first("sample_sampler")
    if named is None or known not in NOISE:
        return {}, ()
    return samplers.named(named, spaced=True)


def _not_followed(told: _Told, place: Place, *, prompted: bool) -> tuple[str, ...]:
    """Tell what clipwatch does not follow, and the word that prompts need."""
    remarks = []
    word = told.first("modelspec.trigger_phrase") or _token(place)
    if word and word.value and not prompted:
        remarks.append(word.told(f"prompts of your own need {word.value!r}"))
    return tuple(remarks)


def _token(place: Place) -> Given | None:
    """Return the word that FluxGym has for its pictures, in a configuration of data sets."""
    paths = [it for root in place.roots for it in matching(root, r"dataset\.toml")]
    found = documents.read_all(paths)[0]
    words = (it.given("datasets", 0, "subsets", 0, "class_tokens") for it in found)
    return next((it for it in words if it), None)
