"""What a folder with model_index.json holds: a whole pipeline, or SimpleTuner's final export."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clipwatch.layouts.files import (
    Damaged,
    NotWhole,
    Unsupported,
    beside,
    read_json,
    shards,
    variants,
)

INDEX = "model_index.json"

MODEL = "diffusion_pytorch_model"

DENOISERS = ("unet", "transformer", "prior", "dit")
"""Folders in which SimpleTuner and the diffusers scripts save what they trained in full."""

SMALL: Final = 64 * 2**20
"""Bytes; the largest tokenizer files have about half of it."""

_TENSORS: Final = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".safetensors"})
_CODE: Final = frozenset({".py", ".pyc", ".so"})

_TRAINER = "simpletuner"
_TEXT = "text_encoder"

Parts = dict[str, list[object]]
"""Library and class of each part by name, nulls where a pipeline goes without it."""


def read_index(checkpoint: Path) -> Parts:
    """Return what a pipeline's index says of its parts; every name is that of a neighbour.

    Raises:
        Damaged: It is no index, or leads elsewhere.
        NotWhole, NotReadable: It cannot be read.
    """
    index = checkpoint / INDEX
    content = read_json(index)
    if not isinstance(content, dict):
        raise Damaged(f"{index.name} is no pipeline's index")
    parts = {name: part for name, part in content.items() if _is_part(part)}
    return {beside(index, name): part for name, part in sorted(parts.items())}


def _is_part(entry: object) -> bool:
    """Whether an entry names a library and a class; other lists are settings, as Krea 2's."""
    match entry:
        case [str() | None, str() | None]:
            return True
        case _:
            return False


def is_config(entry: os.DirEntry[str]) -> bool:
    """Whether a pipeline needs it beside its weights: a config, or of a tokenizer; no code.

    Raises:
        OSError: It cannot be looked at.
    """
    plain = not entry.name.startswith(".") and Path(entry).suffix not in _TENSORS | _CODE
    return plain and entry.is_file() and entry.stat().st_size <= SMALL


def denoisers(parts: Parts) -> set[str]:
    """Name the parts that denoise."""
    return {name for name, part in parts.items() if name in DENOISERS and any(part)}


def exported(parts: Parts) -> bool:
    """Whether it is no whole pipeline but the denoiser that SimpleTuner leaves at the end.

    Its final `pipeline/` names the trainer's own class for the denoiser, and leaves out the text
    encoders (save_text_encoder: false): the rest is the base model's (trainer.py, after the last
    step). The denoiser in it is then loaded like any that was trained in full.
    """
    denoising = denoisers(parts)
    own = any(str(parts[name][0]).partition(".")[0] == _TRAINER for name in denoising)
    texts = [name for name in parts if name.startswith(_TEXT)]
    bare = bool(texts) and not any(any(parts[name]) for name in texts)
    return bool(denoising) and (own or bare)


def files(checkpoint: Path, parts: Parts) -> list[Path]:
    """Return the index and all weights of a whole pipeline, in the variant that is loaded.

    It is the usual one where every part has it, else the first by name that every part has or
    need not have, as diffusers takes the usual files of the parts that lack a variant.

    Raises:
        NotWhole, Damaged, NotReadable: As `shards`; a part lacks its config.
        Unsupported: There are pickles, or no variant serves all parts.
    """
    kept: dict[str, tuple[str, list[str]]] = {}
    for name in (name for name, part in parts.items() if any(part)):
        stems = ((stem, variants(checkpoint / name, stem)) for stem in (MODEL, "model"))
        stem, found = next(((stem, found) for stem, found in stems if found), ("", []))
        if found:
            kept[name] = (stem, found)
        elif any((checkpoint / name).glob("*.bin")):
            raise Unsupported(
                f"{name}/*.bin is a pickle, which is never opened: let the trainer save safetensors"
                " (safe_serialization=True)"
            )
        elif name in DENOISERS:
            raise NotWhole(f"{name}/ has no weights yet")
    if not kept:
        raise NotWhole("no weights in it yet")
    variant = _common({name: found for name, (_, found) in kept.items()})
    paths = [checkpoint / INDEX]
    for name, (stem, found) in kept.items():
        if not (checkpoint / name / "config.json").exists():
            raise NotWhole(f"{name}/ has no config.json")
        paths += shards(checkpoint / name, stem, variant if variant in found else "") or []
    return paths


def _common(kept: dict[str, list[str]]) -> str:
    usual = all("" in found for found in kept.values())
    candidates = [""] if usual else sorted({it for found in kept.values() for it in found} - {""})
    for variant in candidates:
        if all(variant in found or "" in found for found in kept.values()):
            return variant
    told = ", ".join(f"{name}: {'/'.join(map(str, found))}" for name, found in kept.items())
    raise Unsupported(f"its parts are saved in variants that do not go together ({told})")
