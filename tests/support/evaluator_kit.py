"""Small real checkpoints and requests for the tests of the evaluator."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from transformers import CLIPTextModel
from transformers.utils import logging as transformers_logging

from clipwatch.demo.models import CLIP, write_base_pipeline
from clipwatch.domain.events import WeightFile
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.evaluator.batching import Search
from clipwatch.evaluator.images import image_name
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clipwatch.domain.events import ImageScore
    from clipwatch.evaluator.evaluate import Evaluator

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "time_emb_proj"]
PROMPTS = (
    Prompt("red", "one red circle on a white background"),
    Prompt("blue", "two blue squares on a black background"),
)

FILES = {
    "full": "unet/diffusion_pytorch_model.safetensors",
    "pipeline": "unet/diffusion_pytorch_model.safetensors",
    "lora": "pytorch_lora_weights.safetensors",
}
"""Kind of checkpoint → the file that holds its trained weights."""

AGAIN = 1e-6
"""The most by which a score differs when the same is computed once more."""
NEAR = 1e-4
"""The same where other batches, or prompts encoded by themselves, have sums in another order."""

_after = Search.after  # before a test replaces it

torch.set_num_threads(1)  # tests share the cores

for library in (diffusers_logging, transformers_logging):
    library.set_verbosity_error()
    library.disable_progress_bar()

QUIET = [
    # the libraries' own, under versions that disagree with each other
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:peft"),
]


def weight_files(folder: Path) -> tuple[WeightFile, ...]:
    """List a checkpoint's safetensors files as the daemon finds them."""
    found = []
    for path in sorted(folder.rglob("*.safetensors")):
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        found.append(WeightFile(name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)


def protocol(base: Path, **changes: Any) -> EvaluationProtocol:
    """Return a protocol of two prompts and two images each, two steps."""
    values: dict[str, Any] = {
        "prompts": PROMPTS,
        "images_per_prompt": 2,
        "seed": 0,
        "negative_prompt": "",
        "inference_steps": 2,
        "guidance": 3.0,
        "width": 32,
        "height": 32,
        "scheduler": "",
        "base_model": str(base),
        "base_revision": "",
        "base_variant": "",
        "weights": "live",
        "dtype": "fp32",
        "scorers": (ScorerSpec("", str(CLIP)),),
    }
    return EvaluationProtocol(**values | changes)


def request(
    folder: Path,
    kind: str,
    how: EvaluationProtocol,
    *,
    images: Path | None = None,
    **changes: Any,
) -> Evaluate:
    """Return the request to evaluate a checkpoint as it lies on disk now."""
    values: dict[str, Any] = {
        "path": str(folder),
        "kind": kind,
        "component": "unet" if kind == "full" else "",
        "files": weight_files(folder),
        "protocol": how,
        "done": (),
        "images_dir": None if images is None else str(images),
        "device": "cpu",
        "batch_size": 4,
    }
    return Evaluate(**values | changes)


def adapted(model: Any, layers: list[str], seed: int) -> Any:
    """Give a model an adapter whose weights are all drawn from the seed, none of them zero."""
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=layers))
    noise = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            tensor.data = torch.randn(tensor.shape, generator=noise) * 0.1
    return model


def metadata(model: Any) -> dict[str, Any]:
    """Return the adapter's config as diffusers stores it beside the weights."""
    config = model.peft_config["default"].to_dict()
    return {key: sorted(it) if isinstance(it, set) else it for key, it in config.items()}


def write_lora(base: Path, folder: Path, *, seed: int = 1, text: bool = False) -> Any:
    """Write a LoRA of the base as a trainer does; return the models it was made of, adapted."""
    unet = adapted(UNet2DConditionModel.from_pretrained(base, subfolder="unet"), LAYERS, seed)
    more: dict[str, Any] = {}
    encoder = None
    if text:
        encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder")
        encoder = adapted(encoder, ["q_proj", "v_proj"], seed)
        more = {
            "text_encoder_lora_layers": get_peft_model_state_dict(encoder),
            "text_encoder_lora_adapter_metadata": metadata(encoder),
        }
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=metadata(unet),
        **more,
    )
    return {"unet": unet} | ({"text_encoder": encoder} if encoder is not None else {})


def write_world(folder: Path) -> Path:
    """Write base, and a good checkpoint called as its kind and another of each kind of FILES."""
    write_base_pipeline(folder / "base")
    for number, more in enumerate(("", "other-"), start=1):
        write_base_pipeline(folder / f"{more}pipeline", seed=number)
        shutil.copytree(folder / f"{more}pipeline" / "unet", folder / f"{more}full" / "unet")
        write_lora(folder / "base", folder / f"{more}lora", seed=number)
    return folder


def replies_of(evaluator: Evaluator, request: Evaluate) -> list[Reply]:
    """Evaluate and return all replies."""
    messages: list[Reply] = []
    evaluator.evaluate(request, messages.append)
    return [message for message in messages if not isinstance(message, Working)]


def scores_of(evaluator: Evaluator, request: Evaluate) -> list[ImageScore]:
    """Evaluate and return all scores; anything but success fails the test."""
    first, *middle, last = replies_of(evaluator, request)
    assert isinstance(first, Loaded), first
    assert isinstance(last, Finished), last
    return [image for reply in middle if isinstance(reply, Scored) for image in reply.images]


def same(
    found: Sequence[ImageScore], expected: Sequence[ImageScore], within: float = AGAIN
) -> bool:
    """Whether both are of the same images in the same order, with scores that differ by no more."""

    def bare(images: Sequence[ImageScore]) -> list[ImageScore]:
        # a look tells less than the scores, and a pixel's last level may turn a bit of it
        return [replace(it, scores=dict.fromkeys(it.scores, 0.0), look="") for it in images]

    def numbers(images: Sequence[ImageScore]) -> list[float]:
        return [number for it in images for number in it.scores.values()]

    return bare(found) == bare(expected) and (
        numbers(found) == pytest.approx(numbers(expected), abs=within)
    )


def same_pictures(found: Iterable[bytes], expected: Iterable[bytes]) -> bool:
    """Whether pictures are the same to a level, in all but a hundredth of their bytes.

    No processor promises more: it decides in which order a batch is summed up. Seen were 0.07 %.
    """
    for one, other in zip(found, expected, strict=True):
        levels, others = (np.frombuffer(it, np.uint8).astype(int) for it in (one, other))
        apart = np.abs(levels - others)
        if apart.max() > 1 or apart.mean() > 0.01:
            return False
    return True


def failure(evaluator: Evaluator, request: Evaluate) -> Failed:
    """Evaluate and return the failure, one line; success fails the test."""
    last = replies_of(evaluator, request)[-1]
    assert isinstance(last, Failed), last
    assert "\n" not in last.reason
    return last


def batches(evaluator: Evaluator, request: Evaluate) -> tuple[list[int], int]:
    """Evaluate; return how many images each batch had, and the size that was found best."""
    *replies, last = replies_of(evaluator, request)
    assert isinstance(last, Finished), last
    return [len(it.images) for it in replies if isinstance(it, Scored)], last.batch_size


def doubling_pays(search: Search, _: float, *, fits: bool) -> Search:
    """Stand in for `Search.after`, as if twice the batch took half the time, whatever it took."""
    return _after(search, 1 / search.size, fits=fits)


def plain_images(how: EvaluationProtocol, pipeline: Any) -> list[bytes]:
    """Generate the protocol's images with diffusers alone, all at once."""
    tasks = list(how.images())
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=[prompt.text for prompt, _, _ in tasks],
        num_inference_steps=how.inference_steps,
        guidance_scale=how.guidance,
        width=how.width,
        height=how.height,
        generator=[torch.Generator().manual_seed(seed) for _, _, seed in tasks],
    ).images
    return [image.tobytes() for image in images]


def saved_images(how: EvaluationProtocol, folder: Path) -> list[bytes]:
    """Read the protocol's images back from the folder they were saved in."""
    return [
        Image.open(folder / image_name(prompt.id, index)).tobytes()
        for prompt, index, _ in how.images()
    ]
