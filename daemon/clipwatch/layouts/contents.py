"""What a checkpoint folder holds: the kind is read from the disk, not from the configuration."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from clipwatch.domain.kinds import AdapterKind, TrainedWeights
from clipwatch.domain.sighting import Weights
from clipwatch.layouts import adapter_file, pipeline_parts
from clipwatch.layouts.files import (
    NotReadable,
    NotWhole,
    Unsupported,
    read_json,
    refusal,
    shards,
    stat,
)
from clipwatch.layouts.files import variants as variants_of
from clipwatch.layouts.header import read_header
from clipwatch.layouts.pipeline_parts import DENOISERS, INDEX, MODEL

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""Folders in which scripts of diffusers save the text encoders that they train as well."""

LORA = "pytorch_lora_weights.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
ADAPTERS = (LORA, PEFT_WEIGHTS, "lora.safetensors")
"""Adapters in a folder: as diffusers calls them, PEFT, and others (x-flux)."""

LCM = "unet_lora"
"""The folder in which diffusers' train_lcm_distill_lora_*_wds.py keep theirs, for users, beside
PEFT's for themselves."""

PEFT_CONFIG = "adapter_config.json"

SCALED = frozenset({"LOHA", "LOKR"})
"""Kinds of PEFT's adapters whose alphas no tensor tells."""

_ORIGINAL = re.compile(
    r"model\.diffusion_model\.|cond_stage_model\.|first_stage_model\.|conditioner\."
)
"""Before the names of models in their authors' own form."""
_BLOCKS = re.compile(
    r"(?:(?:double|single|joint|(?:single_)?transformer|input|down)_blocks|blocks|layers|noise_refiner)"
    r"\.\d+\."
)
"""Before the names of a denoiser's tensors where it stands alone."""

EMA = {"lora": LORA, "lycoris": "ema_model.safetensors", "embeddings": LORA}
"""In ema/, by kind of adapter."""


def find(checkpoint: Path, weights: TrainedWeights) -> Weights:
    """Find the weights in a checkpoint folder, live or averaged ones.

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
        raise refusal(checkpoint) from error
    if "controlnet" in names:
        raise Unsupported("a ControlNet needs conditioning images and cannot be evaluated")
    if "sdnq" in names:
        raise Unsupported("its weights are quantised by SDNQ, which only its trainer reads")
    if INDEX in names:
        parts = pipeline_parts.read_index(checkpoint)
        if not pipeline_parts.exported(parts):
            return Weights(
                "pipeline", "", stat(checkpoint, pipeline_parts.files(checkpoint, parts))
            )
        names &= pipeline_parts.denoisers(parts)
        weights = "live"  # SimpleTuner puts the averaged weights themselves into it
    trained = [name for name in (*DENOISERS, *ENCODERS) if name in names]
    if trained:
        _refuse_conditioned(checkpoint, trained)
        return Weights("full", trained[0], stat(checkpoint, _trained(checkpoint, trained, weights)))
    if LORA in names:
        return _adapter(checkpoint, weights)
    for name in [f"{LCM}/{LORA}"] * (LCM in names) or [it for it in ADAPTERS if it in names]:
        if weights == "ema":
            raise Unsupported(_NO_EMA)
        return adapter(checkpoint, name)
    _refuse_leftovers(checkpoint, names)
    raise NotWhole("no weights in it yet")


def _refuse_conditioned(checkpoint: Path, trained: list[str]) -> None:
    """Refuse what the scripts of diffusers train that makes no images from text alone.

    Raises:
        Unsupported: Its config says so.
    """
    if (checkpoint / "unet_target").is_dir():
        raise Unsupported("it holds an LCM's UNet (unet_target/), which needs a sampler of its own")
    for name in trained:
        try:
            told = read_json(checkpoint / name / "config.json")
        except (NotWhole, NotReadable):  # it need not be there
            continue
        kind = (told.get("_class_name"), told.get("in_channels")) if isinstance(told, dict) else ()
        if what := _CONDITIONED.get(kind) or _CONDITIONED.get((*kind[:1], None)):
            raise Unsupported(f"{name}/ holds {what}")


_CONDITIONED: dict[tuple[object, ...], str] = {
    ("UNet2DConditionModel", 8): "an InstructPix2Pix model, which needs images to edit",
    ("UNet2DConditionModel", 9): "an inpainting model, which needs images and masks",
    ("UNet2DModel", None): "an unconditional model, which knows no prompts",
    ("PriorTransformer", None): "a prior, which makes embeddings and no images",
}
"""By class and channels of the input."""

_NO_EMA = 'it holds no EMA weights: set "weights": "live", or use_ema in the training'
_PICKLE = (
    "{} is a pickle, which is never opened: let the trainer save safetensors "
    "(safe_serialization=True)"
)


def _trained(checkpoint: Path, components: list[str], weights: TrainedWeights) -> list[Path]:
    """Return the files of what was trained in full; a text encoder has no average of its own."""
    found = []
    for component in components:
        denoiser = component in DENOISERS
        suffix = "_ema" if denoiser and weights == "ema" else ""
        stem = MODEL if denoiser else "model"
        folder = checkpoint / f"{component}{suffix}"
        kept = variants_of(folder, stem)
        files = shards(folder, stem, kept[0]) if kept else None
        if files is None:
            if any(folder.glob("*.bin")):
                raise Unsupported(_PICKLE.format(f"{folder.name}/*.bin"))
            if suffix:
                raise Unsupported(_NO_EMA)
            raise NotWhole(f"{folder.name}/ has no weights yet")
        found += files
    return found


def adapter(root: Path, name: str, *more: str) -> Weights:
    """Return what a file holds, told by its tensors: an adapter, or a whole model.

    Args:
        root: What the checkpoint's files are relative to.
        name: Of the file.
        more: Of files with nothing but the tokens that were learned with it.

    Raises:
        NotWhole, Damaged, NotReadable, Unsupported: As `find`.
    """
    header = read_header(root / name)
    if _is_model(header.tensors):
        return Weights("full", "", stat(root, [root / name]))
    config = _peft_config(root) if name in (PEFT_WEIGHTS, f"{LCM}/{LORA}") else {}
    told = {adapter_file.METADATA_KEY: json.dumps(config), **header.metadata}
    files = [root / name, *([root / PEFT_CONFIG] if _scales(config) else [])]
    kind = _kind_of(name, header.tensors, told)
    for other in more:
        beside = read_header(root / other)
        if _kind_of(other, beside.tensors, beside.metadata) != "embeddings":
            raise Unsupported(f"{other}: it holds no learned tokens")
        files.append(root / other)
    return Weights(kind, "", stat(root, files))


def _is_model(tensors: frozenset[str]) -> bool:
    """Whether a file holds weights themselves, and no change of them."""
    if not any(_ORIGINAL.match(name) or _BLOCKS.match(name) for name in tensors):
        return False
    return not any(adapter_file.lora_part(it) or adapter_file.lycoris_part(it) for it in tensors)


def _peft_config(root: Path) -> dict[str, object]:
    """Return what PEFT keeps beside its file; {} if nothing is.

    Raises:
        NotWhole, Damaged, NotReadable: As `find`.
    """
    path = root / PEFT_CONFIG
    told = read_json(path) if path.is_file() else {}
    return told if isinstance(told, dict) else {}


def _scales(config: Mapping[str, object]) -> bool:
    """Whether PEFT's config tells more than a scale of 1, that of a file that tells none."""
    plain = config.get("lora_alpha", config.get("r")) == config.get("r")
    alone = config.get("peft_type") in {"OFT", *SCALED}  # by what stands there alone
    return (
        alone or not plain or any(map(config.get, ("use_rslora", "rank_pattern", "alpha_pattern")))
    )


def _adapter(checkpoint: Path, weights: TrainedWeights) -> Weights:
    path = checkpoint / LORA
    header = read_header(path)
    kind = _kind_of(path.name, header.tensors, header.metadata)
    if weights == "ema":
        path = checkpoint / "ema" / EMA[kind]
        if not path.exists():
            raise Unsupported(_NO_EMA)
        average = read_header(path)
        _kind_of(f"ema/{path.name}", average.tensors, average.metadata)
        if _of_texts(header.tensors) and not _of_texts(average.tensors):
            raise Unsupported(
                "its EMA weights are those of the denoiser alone, without the trained LoRA of the"
                ' text encoder: set "weights": "live"'
            )
    return Weights(kind, "", stat(checkpoint, [path]))


def _kind_of(name: str, tensors: frozenset[str], metadata: Mapping[str, str]) -> AdapterKind:
    """Return what an adapter's file holds; what is told against it begins with its name."""
    try:
        return adapter_file.kind_of(tensors, metadata, name)
    except Unsupported as reason:
        raise Unsupported(f"{name}: {reason}") from reason


def _of_texts(tensors: frozenset[str]) -> bool:
    return any(name.startswith(("text_encoder", "lora_te")) for name in tensors)


def _refuse_leftovers(checkpoint: Path, names: set[str]) -> None:
    if any(name.startswith("pytorch_model_fsdp") for name in names):
        raise Unsupported(
            "FSDP shards cannot be evaluated: save a diffusers folder, or score the final pipeline"
        )
    if "pytorch_model" in names and "latest" in names:
        raise Unsupported("DeepSpeed shards cannot be evaluated: save a diffusers folder")
    if "pytorch_lora_weights.bin" in names:
        raise Unsupported(_PICKLE.format("pytorch_lora_weights.bin"))
    folders = (name for name in sorted(names) if variants_of(checkpoint / name, MODEL))
    if other := next(folders, "split_files" if "split_files" in names else ""):
        raise Unsupported(
            f"it holds weights in {ascii(other)[1:-1]}/, which is no part of a diffusers pipeline"
            " that makes images from text"
        )
    if "random_states_0.pkl" in names and names & {"model.safetensors", "pytorch_model.bin"}:
        raise Unsupported(
            "it holds accelerate's own state only, no unet/ or transformer/ folder and no LoRA file"
        )


def check_headers(checkpoint: Path, weights: Weights) -> None:
    """Check every header against its file.

    Raises:
        NotWhole, Damaged, NotReadable: As `find`.
    """
    for file in weights.files:
        if file.path.endswith(".safetensors"):
            read_header(checkpoint / file.path)
