"""From folders to a pipeline in host memory that no file can hurt any more."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from diffusers import DiffusionPipeline

from clipwatch.evaluator.depth import check_depth
from clipwatch.evaluator.failures import EvaluationError, failing_as, from_hub
from clipwatch.evaluator.foreign import check_classes, check_shards
from clipwatch.evaluator.generation.latents import channels
from clipwatch.evaluator.generation.weights import (
    check_fit,
    check_whole,
    models_of,
)
from clipwatch.evaluator.tensors import check_finite, own_memory
from clipwatch.models.files import INDEX, UNUSED
from clipwatch.models.identity import ModelError, base_of
from clipwatch.models.places import places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clipwatch.domain.protocol import EvaluationProtocol, Part

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DENOISERS: Final = ("unet", "transformer", "transformer_2", "prior")


def dtypes_of(protocol: EvaluationProtocol) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype of the generation, and the VAE's.

    Raises:
        EvaluationError: There is none of that name ("model").
    """
    names = (protocol.dtype, protocol.vae_dtype or protocol.dtype)
    for name in names:
        if name not in DTYPES:
            raise EvaluationError("model", f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[names[0]], DTYPES[names[1]]


def open_base(protocol: EvaluationProtocol) -> tuple[Any, str]:
    """Load the base pipeline, with those parts that come from elsewhere.

    Returns:
        The pipeline, and the base model's commit on the Hub, "" for a local one.

    Raises:
        EvaluationError: It cannot be loaded ("model").
    """
    what = f"base model {protocol.base_model!r} cannot be loaded"
    with failing_as("model", what), from_hub(what):
        folder, commit = locate(protocol)
    with failing_as("model", what):
        index = read_index(folder)
    instead = {part.name: open_part(part, index, protocol) for part in protocol.parts}
    with failing_as("model", what):
        return open_folder(folder, protocol, protocol.base_variant, instead), commit


def open_folder(
    folder: Path,
    protocol: EvaluationProtocol,
    variant: str,
    instead: Mapping[str, Any],
    paths: Sequence[Path] = (),
) -> Any:
    """Load a pipeline from a folder.

    Args:
        folder: Holds model_index.json.
        protocol: Names the dtypes.
        variant: Of the weights, "" for the usual ones.
        instead: Parts that are not the folder's.
        paths: Weight files that a denoiser must fit exactly.

    Raises:
        EvaluationError, ValueError, OSError: Not all of it can be loaded.
    """
    index = read_index(folder)
    check_classes(index)
    check_shards(folder)
    check_depth(folder)
    if index.get("_class_name") == "OmniGenPipeline" and find_spec("torchvision") is None:
        raise EvaluationError("model", "OmniGen needs torchvision", fix="pip install torchvision")
    dtype, vae = dtypes_of(protocol)
    pipeline = DiffusionPipeline.from_pretrained(
        str(folder),
        dtype={"default": dtype, "vae": vae},
        variant=variant or None,
        use_safetensors=True,
        local_files_only=True,
        **left_out(index) | dict(instead),
    )
    for name, model in pipeline.components.items():
        # diffusers only warns of tensors that are left over or missing
        parts = [path for path in paths if path.parent == folder / name]
        if parts and name in DENOISERS:
            check_fit(model, parts)
    check_whole(models_of(pipeline))
    _check_latents(pipeline, [part for part in protocol.parts if part.name in instead])
    if vae != dtype:
        _take_any_dtype(getattr(pipeline, "vae", None))
    pipeline.set_progress_bar_config(disable=True)
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None  # SDXL's, which would be scored with the picture
    for model in models_of(pipeline):
        model.eval()
        own_memory(chain(model.parameters(), model.buffers()))
        check_finite(model.named_parameters())
    return pipeline


def open_part(part: Part, index: Mapping[str, Any], protocol: EvaluationProtocol) -> Any:
    """Load a part that is not the base model's own, of the class that the base model has there.

    Raises:
        EvaluationError: The base has no such part, or it cannot be loaded ("model").
    """
    import diffusers
    import transformers

    what = f"{part.name} from {part.model!r} cannot be loaded"
    with failing_as("model", what), from_hub(what):
        match index.get(part.name):
            case [("diffusers" | "transformers") as library, str(name)]:
                kind = getattr(diffusers if library == "diffusers" else transformers, name)
            case other:
                raise EvaluationError("model", f"{what}: the base model has {other} there")
        folder = locate_part(part)
        check_shards(folder)
        check_depth(folder)
        dtype, vae = dtypes_of(protocol)
        given: dict[str, Any] = {"dtype": vae if part.name == "vae" else dtype}
        return kind.from_pretrained(
            str(folder),
            variant=part.variant or None,
            use_safetensors=True,
            local_files_only=True,
            **given,
        )


def locate(protocol: EvaluationProtocol) -> tuple[Path, str]:
    """Return the base model's folder and, when it comes from the Hub, its commit.

    What is whole in the Hub's cache is taken as it is, without a question to the Hub: so it stays
    the commit that the training loaded. Anything that lacks is fetched.
    """
    name = protocol.base_model
    if Path(name).is_dir():
        return Path(name), ""
    if Path(name).is_absolute():
        raise EvaluationError("model", f"base model {name!r}: no such folder")
    with suppress(ModelError):
        folder, _ = base_of(protocol)["base"]
        return folder, folder.name
    revision = protocol.base_revision or None
    index = DiffusionPipeline.load_config(name, revision=revision)
    folder = Path(
        DiffusionPipeline.download(
            name,
            revision=revision,
            variant=protocol.base_variant or None,
            use_safetensors=True,
            **left_out(index) | {part.name: None for part in protocol.parts},
        )
    )
    return folder, folder.name


def locate_part(part: Part) -> Path:
    """Return the folder of a part; what lacks in the Hub's cache is fetched."""
    from huggingface_hub import snapshot_download

    for root in places(part.model, part.revision):
        if (root / part.subfolder / "config.json").is_file():
            return root / part.subfolder
    if Path(part.model).is_absolute():
        where = Path(part.model, part.subfolder)
        raise EvaluationError("model", f"{part.name}: {where} holds no model")
    below = f"{part.subfolder}/" if part.subfolder else ""
    root = Path(
        snapshot_download(
            part.model,
            revision=part.revision or None,
            allow_patterns=[f"{below}*.json", f"{below}*.safetensors"],
        )
    )
    return root / part.subfolder


def read_index(folder: Path) -> dict[str, Any]:
    """Return what a pipeline's model_index.json holds."""
    found: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return found


def left_out(index: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the index says is not there, and the checker that blackens images."""
    absent: dict[str, Any] = {name: None for name, part in index.items() if part == [None, None]}
    absent |= {name: None for name in UNUSED if name in index}
    if "safety_checker" in index:
        absent["requires_safety_checker"] = False
    return absent


def _check_latents(pipeline: Any, parts: Sequence[Part]) -> None:
    """Make sure that the VAE has the denoiser's channels.

    Raises:
        EvaluationError: It has not ("misfit").
    """
    known = channels(pipeline)
    if known is None or known[1] == known[2]:
        return
    name, made, decoded = known
    theirs = next((f" from {part.model!r}" for part in parts if part.name == "vae"), "")
    key = " (pretrained_vae_model_name_or_path)" if theirs else ""
    raise EvaluationError(
        "misfit",
        f"vae{theirs} decodes {decoded} channels, and the {name} of {type(pipeline).__name__}"
        f" makes {made}{key}",
    )


def _take_any_dtype(vae: Any) -> None:
    """Have what a VAE is given cast to its own dtype: pipelines hand over the denoiser's."""

    def cast(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        dtype = next(module.parameters()).dtype

        def own(value: Any) -> Any:
            floats = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value.to(dtype) if floats else value

        return tuple(map(own, args)), {name: own(value) for name, value in kwargs.items()}

    for part in () if vae is None else vae.children():
        if next(part.parameters(), None) is not None:
            part.register_forward_pre_hook(cast, with_kwargs=True)
