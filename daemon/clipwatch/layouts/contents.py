"""What a checkpoint folder holds: the kind is read from the disk, not from the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from clipwatch.layouts.files import (
    Damaged,
    NotReadable,
    NotWhole,
    beside,
    read_json,
    refusal,
    shards,
    stat,
)
from clipwatch.layouts.header import read_header
from clipwatch.layouts.sighting import Weights

COMPONENTS = ("unet", "transformer", "prior", "dit")
"""Folders in which SimpleTuner and the diffusers scripts save what they trained in full."""

MODEL = "diffusion_pytorch_model"
LORA = "pytorch_lora_weights.safetensors"


class Unsupported(Exception):  # noqa: N818 - says what is so
    """The folder holds something that cannot be evaluated; the text names it."""


def find(checkpoint: Path, weights: str) -> Weights:
    """Find the weights in a checkpoint folder; `weights` is "live" or "ema".

    Raises:
        NotWhole: Something lacks that may still come.
        Damaged: Something is nonsense.
        NotReadable: Something may not be read.
        Unsupported: Nothing here can be evaluated, whatever may come.
    """
    try:
        names = set(os.listdir(checkpoint))
    except FileNotFoundError as error:
        raise NotWhole("the folder is gone") from error
    except PermissionError as error:
        raise NotReadable(refusal(checkpoint)) from error
    _refuse(names)
    if "model_index.json" in names:
        return Weights("pipeline", "", stat(checkpoint, _pipeline(checkpoint)))
    suffix = "_ema" if weights == "ema" else ""
    for component in (name for name in COMPONENTS if name in names):
        folder = checkpoint / f"{component}{suffix}"
        files = shards(folder, MODEL)
        if files is not None:
            return Weights("full", component, stat(checkpoint, files))
        if any(folder.glob(f"{MODEL}*.bin")):
            raise Unsupported(_PICKLE.format(f"{folder.name}/{MODEL}.bin"))
        if suffix:
            raise Unsupported(_NO_EMA)
        raise NotWhole(f"{folder.name}/ has no weights yet")
    if LORA in names:
        path = checkpoint / "ema" / LORA if weights == "ema" else checkpoint / LORA
        if weights == "ema" and not path.exists():
            raise Unsupported(_NO_EMA)
        return Weights("lora", "", stat(checkpoint, [path]))
    _refuse_leftovers(names)
    raise NotWhole("no weights in it yet")


_NO_EMA = 'it holds no EMA weights: set "weights": "live", or use_ema in the training'
_PICKLE = (
    "{} is a pickle, which is never opened: let the trainer save safetensors "
    "(safe_serialization=True)"
)


def _refuse(names: set[str]) -> None:
    if "lycoris_config.json" in names:
        raise Unsupported("a LyCORIS adapter cannot be evaluated yet; PEFT LoRA can")
    if "controlnet" in names:
        raise Unsupported("a ControlNet needs conditioning images and cannot be evaluated")
    encoders = names & {"text_encoder", "text_encoder_2"}
    if encoders and names & set(COMPONENTS) and "model_index.json" not in names:
        raise Unsupported("a text encoder trained in full cannot be evaluated yet")


def _refuse_leftovers(names: set[str]) -> None:
    if any(name.startswith("pytorch_model_fsdp") for name in names):
        raise Unsupported(
            "FSDP shards cannot be evaluated: save a diffusers folder, or score the final pipeline"
        )
    if "pytorch_model" in names and "latest" in names:
        raise Unsupported("DeepSpeed shards cannot be evaluated: save a diffusers folder")
    if "pytorch_lora_weights.bin" in names:
        raise Unsupported(_PICKLE.format("pytorch_lora_weights.bin"))
    if "random_states_0.pkl" in names and names & {"model.safetensors", "pytorch_model.bin"}:
        raise Unsupported(
            "it holds accelerate's own state only, no unet/ or transformer/ folder and no LoRA file"
        )


def _pipeline(checkpoint: Path) -> list[Path]:
    """All weights of a diffusers pipeline folder, and its index."""
    found = [checkpoint / "model_index.json"]
    for folder in _components(found[0]):
        for stem in (MODEL, "model"):
            files = shards(folder, stem)
            if files is not None:
                if not (folder / "config.json").exists():
                    raise NotWhole(f"{folder.name}/ has no config.json")
                found += files
                break
        else:
            if any(folder.glob("*.bin")):
                raise Unsupported(_PICKLE.format(f"{folder.name}/*.bin"))
            if folder.name in COMPONENTS:
                raise NotWhole(f"{folder.name}/ has no weights yet")
    if len(found) == 1:
        raise NotWhole("no weights in it yet")
    return found


def _components(index: Path) -> list[Path]:
    """Where the parts lie that a pipeline's index names; other folders may lie beside them."""
    parts = read_json(index)
    if not isinstance(parts, dict):
        raise Damaged(f"{index.name} is no pipeline's index")
    named = [name for name, part in parts.items() if isinstance(part, list) and any(part)]
    return [index.parent / beside(index, name) for name in sorted(named)]


def check_headers(checkpoint: Path, weights: Weights) -> None:
    """Check every header against its file; refuse adapters in disguise.

    Raises:
        NotWhole, Damaged, NotReadable, Unsupported: As `find`.
    """
    for file in weights.files:
        if not file.path.endswith(".safetensors"):
            continue
        header = read_header(checkpoint / file.path)
        if weights.kind == "lora":
            if "lycoris_config" in header.metadata or any("lokr_" in t for t in header.tensors):
                raise Unsupported("a LyCORIS adapter cannot be evaluated yet; PEFT LoRA can")
            if any(name.startswith("controlnet") for name in header.tensors):
                raise Unsupported("a ControlNet LoRA needs conditioning images, no evaluation")
