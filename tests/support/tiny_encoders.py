"""Tiny models that read images alone, with random weights, and folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIDE: Final = 32
_LAYERS: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
}
_BIT: Final[dict[str, Any]] = {
    "size": {"shortest_edge": 40},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
MODELS: Final[dict[str, Any]] = {
    "dinov2": lambda: Dinov2Model(Dinov2Config(**_LAYERS)),
    "dinov2_with_registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**_LAYERS, num_register_tokens=2)
    ),
    "vit": lambda: ViTModel(ViTConfig(**_LAYERS)),
}
PROCESSORS: Final[dict[str, Any]] = {
    "dinov2": BitImageProcessorPil(**_BIT),
    "dinov2_with_registers": BitImageProcessorPil(**_BIT),
    "vit": ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}),
}
"""Type of model -> its image processor."""


def write_encoder(folder: Path, kind: str = "dinov2", seed: int = 0) -> Path:
    """Write a whole one, with weights large enough to tell images apart."""
    noise = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[kind]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    model.save_pretrained(folder)
    PROCESSORS[kind].save_pretrained(folder)
    return folder


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Return a coarse pattern of colours with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size)
    noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return Image.blend(coarse, noise, 0.1)


def write_pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write some into a folder, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{first + n:04}.png" for n in range(count)]
    for n, path in enumerate(paths):
        picture(first + n).save(path)
    return paths
