"""Size, steps and guidance that cannot be meant, by what a base model is usually called with.

Nothing is refused: a model may have been trained for something else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from clipwatch.domain.protocol import Part
from clipwatch.kit import textfiles
from clipwatch.kit.errors import SettingsError
from clipwatch.settings.simpletuner.bases import pipeline_of
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.simpletuner.tables import table as table_of
from clipwatch.settings.simpletuner.tables import versions
from clipwatch.settings.values import Given, Size

FILE = Path(__file__).with_name("usual.toml")

SMALL, LARGE = 0.25, 4.0
"""Shares of the usual area: diffusers' guide to SDXL, made for 1024, advises against less than 512;
a picture of twice the side shows its subject twice."""

STRONG, DISTILLED = 2.0, 1.5
"""Times the usual guidance; a distilled model has seen no more than a range of it."""

FEW, MANY = 5, 2
"""So many times fewer steps than usual, or more than a distilled model's most."""

_BASE = "pretrained_model_name_or_path"
_SIZE, _GUIDANCE = "validation_resolution", "validation_guidance"
_STEPS = "validation_num_inference_steps"
_SAMPLER, _LCM = "validation_noise_scheduler", "lcm"
_SAMPLED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")
_LARGEST = 2**20
_BLOCKS, _WIDEST = 8, 8192  # what lies beyond is no VAE, and no picture
_WORD = re.compile(r"[a-z]+|\d+")

Usual = Mapping[str, Any]


def doubts(given: Mapping[str, Given], model: Model, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return a line for each of the three keys that does not suit the base model.

    Args:
        given: With the values that hold.
        model: The family and flavour, where they are known.
        parts: What is not the base model's own.
    """
    known = _known(given, model, parts)
    if known is None:
        return ()
    base = Path(str(given[_BASE].value))
    return (
        *_of_size(given[_SIZE], known.side, known.called),
        *_of_steps(given[_STEPS], known.usual, known.distilled, known.called),
        *_of_guidance(given, _embeds(base, known.usual), known.distilled, known.called),
    )


OF_PIPELINES: Final = "default of diffusers' "
"""How the source of a value begins that holds for all base models of a pipeline alike."""


def fitting(given: Mapping[str, Given], model: Model) -> dict[str, Given]:
    """Return size, steps and guidance as the base model usually has them, where nobody set them.

    What was found as a pipeline's own default nobody set: a base model may have another. Nothing
    for one of which nothing is known. Steps stay the default's but for a
    distilled model.

    Args:
        given: With the base model.
        model: The family and flavour, where they are known.
    """
    known = _known(given, model, ())
    if known is None:
        return {}
    values: dict[str, object] = {_SIZE: (Size(known.side, known.side),)}
    if "steps" in known.distilled:
        values[_STEPS] = known.distilled["steps"]
    guidance = known.distilled.get("guidance", known.usual.get("guidance"))
    if guidance is not None:
        values[_GUIDANCE] = guidance
    source = f"usual for {known.called}"
    return {
        key: replace(given[key], value=value, source=source)
        for key, value in values.items()
        if _unset(given[key])
    }


def for_lcm(given: Mapping[str, Given]) -> dict[str, Given]:
    """Return steps and guidance of LCM's sampler where it is used and nobody set them.

    So do diffusers' train_lcm_distill_lora_*.py validate; a guidance of 1 is none.
    """
    if given[_SAMPLER].value != _LCM:
        return {}
    values = ((_STEPS, 4), (_GUIDANCE, 1.0))
    return {
        key: replace(given[key], value=value, source="usual for LCM")
        for key, value in values
        if _unset(given[key])
    }


class _Known(NamedTuple):
    """What a base model is usually called with: its pipeline's, a distilled one's, and its name."""

    usual: Usual
    distilled: Usual
    side: int
    called: str


def _known(given: Mapping[str, Given], model: Model, parts: Sequence[Part]) -> _Known | None:
    base = str(given[_BASE].value)
    own = table()["models"].get(base.lower(), {})
    family = model.usual.pipeline if model.usual else _of_hub(base)
    pipeline = pipeline_of(Path(base)) or own.get("pipeline") or family
    usual = table()["pipelines"].get(pipeline)
    if usual is None:
        return None
    denoisers = [it.model for it in parts if it.name in ("unet", "transformer")]
    word, distilled = _distilled(denoisers[0] if denoisers else base)
    if given[_SAMPLER].value == _LCM:
        word, distilled = _LCM, table()["distilled"][_LCM]
    elif "steps" in own and not denoisers:
        word, distilled = base.rpartition("/")[2], own
    side = own.get("side") or _side(Path(base), pipeline) or usual["side"]
    called = " ".join(filter(None, (model.name or pipeline, word)))
    return _Known(usual, distilled, side, called)


@cache
def table() -> Mapping[str, Mapping[str, Any]]:
    """Return what usual.toml has."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _of_size(size: Given, side: int, called: str) -> Iterator[str]:
    """Tell of pictures that are far too small or large; of a default also where it is smaller."""
    found: Size = size.value
    share = found.width * found.height / side**2
    least = 1.0 if _default(size) else SMALL
    if not least <= share <= LARGE:
        what = "small" if share < 1 else "large"
        usually = f"whose pictures are usually {side}x{side}"
        yield _told(size, f"{found} is {what} for {called}, {usually}")


def _of_steps(steps: Given, usual: Usual, distilled: Usual, called: str) -> Iterator[str]:
    """Tell of many steps of a distilled model, and of few of another."""
    if distilled:
        most = distilled["steps"]
        if steps.value > MANY * most:
            yield _told(steps, f"{steps.value} are many for {called}, made for {most} at most")
    elif steps.value * FEW < usual["steps"]:
        many = usual["steps"]
        yield _told(steps, f"{steps.value} are few for {called}, which usually takes {many}")


def _of_guidance(
    given: Mapping[str, Given], usual: Usual, distilled: Usual, called: str
) -> Iterator[str]:
    """Tell of guidance that is far from the usual; true guidance beside it is as it is."""
    plain, mean = given[_GUIDANCE], usual.get("guidance")
    if mean is None or given["validation_guidance_real"].value > 1:
        return
    if distilled:
        if "guidance" in distilled and plain.value > 1:
            yield _told(plain, f"{plain.value:g} is strong for {called}, made for none: 0")
        return
    embedded = usual.get("embedded", False)
    most = DISTILLED if embedded or _default(plain) else STRONG
    what = "strong" if plain.value > most * mean else "none"
    if what == "strong" or (plain.value <= 1 and not embedded):
        usually = f"whose guidance is usually {mean:g}"
        yield _told(plain, f"{plain.value:g} is {what} for {called}, {usually}")


def _distilled(name: str) -> tuple[str, Usual]:
    """Return the word in a model's name that says what it was distilled to, and what that means."""
    words = _WORD.findall(name.rstrip("/").rpartition("/")[2].lower())
    for before, word in zip(("", *words), words, strict=False):
        if word in table()["distilled"] and before != "de":
            return word, table()["distilled"][word]
    return "", {}


def _side(base: Path, pipeline: str) -> int:
    """Return the side that a local pipeline's denoiser was made for, 0 where no file tells.

    As diffusers' classes do: its sample_size times two to the number of the VAE's halvings.
    """
    if not base.is_absolute() or pipeline not in _SAMPLED:
        return 0
    denoiser = "transformer" if pipeline == "StableDiffusion3Pipeline" else "unet"
    sample = _config(base / denoiser).get("sample_size")
    blocks = _config(base / "vae").get("block_out_channels")
    if not isinstance(sample, int) or not isinstance(blocks, list) or len(blocks) > _BLOCKS:
        return 0
    side = int(sample * 2 ** (len(blocks) - 1))
    return side if 0 < side <= _WIDEST else 0


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(textfiles.read(folder / "config.json", _LARGEST))
    except (SettingsError, OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _of_hub(base: str) -> str:
    """Return the pipeline class of a model on the Hub that is some family's, "" for another."""
    for version in reversed(versions()):
        for family in table_of(version).families.values():
            for flavour in family["flavours"].values():
                if flavour["model"].lower() == base.lower():
                    return str(flavour.get("pipeline", ""))
    return ""


def _embeds(base: Path, usual: Usual) -> Usual:
    """Leave the guidance out where a local denoiser, as FLUX.1-schnell's, has no place for it."""
    local = _config(base / "transformer") if base.is_absolute() else {}
    if usual.get("embedded") and local.get("guidance_embeds") is False:
        return {name: value for name, value in usual.items() if name != "guidance"}
    return usual


def _told(given: Given, what: str) -> str:
    """Say what is odd; a value that nobody set is one to set."""
    return given.told(f"{what}: set {given.key}" if _default(given) else what)


def _unset(given: Given) -> bool:
    return given.source == "default" or given.source.startswith(OF_PIPELINES)


def _default(given: Given) -> bool:
    return given.line is None and given.source.startswith("default")
