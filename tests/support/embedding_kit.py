"""A tiny random pipeline of each family; made without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import tiny_families as tiny
import tiny_new_families as new
from clipwatch.domain.protocol import Prompt
from clipwatch.evaluator.generation import embeddings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

PROMPTS = (
    Prompt("short", "red"),
    Prompt("long", "two blue squares on a black background, seen from far above"),
    Prompt("middle", "one green circle"),
)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that names every call of a text encoder's forward from here on.

    Of pipelines that are covered, and loaded from here on.
    """
    made: list[str] = []

    def counted(pipeline: Any) -> dict[str, torch.nn.Module]:
        found = text_encoders(pipeline)
        for name, model in found.items():
            model.register_forward_hook(lambda *_, name=name: made.append(name))
        return found

    text_encoders = embeddings.text_encoders
    monkeypatch.setattr(embeddings, "text_encoders", counted)
    return made


def write_pipeline(family: str, folder: Path, *, seed: int = 0) -> str:
    """Write a family's pipeline with weights drawn from the seed; return its denoiser's name."""
    pipeline = stirred(family, seed)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return "unet" if hasattr(pipeline, "unet") else "transformer"


def stirred(family: str, seed: int = 0) -> Any:
    """Return a family's pipeline with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = (FAMILIES | PLAIN)[family]()
        for model in (it for it in pipeline.components.values() if isinstance(it, torch.nn.Module)):
            _stir(model.eval())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _stir(model: torch.nn.Module) -> None:
    """Draw weights large enough that a text shows in the picture."""
    for name, tensor in model.named_parameters():
        if tensor.dim() > 1:
            torch.nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
        elif "pad_token" in name or name.endswith("bias"):
            torch.nn.init.normal_(tensor, std=0.02)


FAMILIES: dict[str, Callable[[], Any]] = {
    "AuraFlowPipeline": tiny.aura_flow,
    "ChromaPipeline": tiny.chroma,
    "CogView4Pipeline": new.cogview_4,
    "ErnieImagePipeline": new.ernie_image,
    "Flux2KleinPipeline": new.flux_2_klein,
    "Flux2Pipeline": new.flux_2,
    "FluxPipeline": tiny.flux,
    "HiDreamImagePipeline": new.hidream,
    "IFPipeline": new.deepfloyd,
    "KolorsPipeline": new.kolors,
    "Krea2Pipeline": new.krea_2,
    "LongCatImagePipeline": new.longcat_image,
    "Lumina2Pipeline": tiny.lumina2,
    "PixArtSigmaPipeline": tiny.pixart_sigma,
    "QwenImage21Pipeline": new.qwen_image_21,
    "QwenImagePipeline": tiny.qwen_image,
    "SanaPipeline": tiny.sana,
    "StableDiffusion3Pipeline": tiny.stable_diffusion_3,
    "StableDiffusionPipeline": tiny.stable_diffusion,
    "StableDiffusionXLPipeline": tiny.stable_diffusion_xl,
    "ZImagePipeline": tiny.z_image,
}
"""Those whose prompts are encoded once."""

PLAIN: dict[str, Callable[[], Any]] = {
    "Ideogram4Pipeline": new.ideogram_4,
    "Kandinsky5T2IPipeline": new.kandinsky_5,
    "OmniGenPipeline": new.omnigen,
    "ZImageOmniPipeline": new.z_image_omni,
}
"""Those whose prompts are encoded anew for every batch."""
