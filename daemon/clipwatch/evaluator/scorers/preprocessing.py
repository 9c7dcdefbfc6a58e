"""Pixels as a model's image processor prepares them, on the device that the images are on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers.resample import FILTERS, Size, resize

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_HALF: Final = (0.5, 0.5, 0.5)
_CLIP: Final = {"do_center_crop": True, "image_mean": _MEAN, "image_std": _STD}
_PLAIN: Final = {"do_center_crop": False, "image_mean": _HALF, "image_std": _HALF}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "Bit": _CLIP | {"size": 224, "crop_size": 224},
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "EfficientNet": _PLAIN
    | {
        "size": {"width": 346, "height": 346},
        "crop_size": {"width": 289, "height": 289},
        "include_top": True,
    },
    "Siglip": _PLAIN,
    "Siglip2": _PLAIN | {"resample": Image.Resampling.BILINEAR},
    "ViT": _PLAIN | {"size": {"width": 224, "height": 224}, "resample": Image.Resampling.BILINEAR},
}
_CLASS: Final = re.compile("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")

Preprocess = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""Takes (n, height, width, 3) uint8; returns what the image tower takes, by its names for it."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What becomes of the 256 levels of each channel.

    Attributes:
        factor: They are multiplied by it.
        shifted: One is taken away then.
        mean, std: Taken away and divided by, of each channel; None for none of it.
        again: Divided by `std` once more.
    """

    factor: float = 1 / 255
    shifted: bool = False
    mean: tuple[float, ...] | None = _MEAN
    std: tuple[float, ...] = _STD
    again: bool = False

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Turn (n, height, width, 3) uint8 into float32."""
        starts = torch.arange(0, 3 * 256, 256, dtype=torch.int32, device=images.device)
        places = (images.int() + starts).flatten()
        return _table(self, images.device).index_select(0, places).reshape(images.shape)


@lru_cache(maxsize=8)
def _table(levels: Levels, device: torch.device) -> torch.Tensor:
    """Return (3 * 256) float32, computed on the CPU as the processors do, so equal everywhere."""
    found = (np.arange(256, dtype=np.float64) * levels.factor).astype(np.float32)
    if levels.shifted:
        found -= 1
    table = np.tile(found, (3, 1))
    mean, std = (np.array(it or (0, 0, 0), np.float32)[:, None] for it in (levels.mean, levels.std))
    if levels.mean is not None:
        table = (table - mean) / std
    return torch.from_numpy(table / std if levels.again else table).flatten().to(device)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, crop from the centre, map the levels.

    Attributes:
        resize: The shortest side in pixels, or (width, height) regardless of the shape.
        crop: (width, height) in pixels, None for none.
        resample: A PIL resampling filter; 3 is bicubic.
        levels: How 8-bit numbers become the model's.
    """

    resize: int | Size
    crop: Size | None = None
    resample: int = Image.Resampling.BICUBIC
    levels: Levels = Levels()

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `pixel_values`, (n, 3, height, width) float32, those of transformers for PIL."""
        size = (images.shape[2], images.shape[1])
        wanted = shortest_side(size, self.resize) if isinstance(self.resize, int) else self.resize
        small = resize(images, wanted, self.resample)
        if self.crop:
            left, upper, right, lower = centre(wanted, self.crop)
            edges = (0, 0, -left, right - wanted[0], -upper, lower - wanted[1])
            small = torch.nn.functional.pad(small, edges)
        return {"pixel_values": self.levels(small).permute(0, 3, 1, 2).contiguous()}


@dataclass(frozen=True, slots=True)
class Patches:
    """SigLIP 2 of native shape (NaFlex): as many square patches as it may have, one row each.

    Attributes:
        side: Of a patch, in pixels.
        most: Patches of an image; where it has fewer, empty ones follow.
        resample: A PIL resampling filter; 2 is bilinear.
        levels: How 8-bit numbers become the model's.
    """

    side: int = 16
    most: int = 256
    resample: int = Image.Resampling.BILINEAR
    levels: Levels = Levels(mean=_HALF, std=_HALF)

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `pixel_values`, their mask, and the rows and columns of patches.

        They are (n, most, side * side * 3) float32, (n, most), 1 for a patch of the image, and
        (n, 2).
        """
        columns, rows = patch_grid((images.shape[2], images.shape[1]), self.side, self.most)
        small = resize(images, (columns * self.side, rows * self.side), self.resample)
        grid = (len(images), rows, self.side, columns, self.side, 3)
        split = self.levels(small).reshape(grid).transpose(2, 3)
        patches = split.flatten(3).flatten(1, 2)
        empty = self.most - rows * columns
        mask = torch.ones(patches.shape[:2], dtype=torch.int32, device=images.device)
        return {
            "pixel_values": torch.nn.functional.pad(patches, (0, 0, 0, empty)),
            "pixel_attention_mask": torch.nn.functional.pad(mask, (0, empty)),
            "spatial_shapes": torch.tensor([[rows, columns]] * len(images), device=images.device),
        }


def patch_grid(size: Size, side: int, most: int) -> Size:
    """Return the (columns, rows) of patches that an image of `size` is scaled to.

    The scale is the largest that makes no more than `most`, each side rounded up to whole patches;
    halving its range ends where transformers ends.
    """

    def grid(scale: float) -> Size:
        columns, rows = (max(1, math.ceil(length * scale / side)) for length in size)
        return columns, rows

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:  # noqa: PLR2004 - transformers'
        middle = (low + high) / 2
        if math.prod(grid(middle)) <= most:
            low = middle
        else:
            high = middle
    return grid(low)


def shortest_side(size: Size, side: int) -> Size:
    """Return `size` scaled so that its shortest side is `side`; the longer one is rounded down."""
    width, height = size
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def centre(size: Size, crop: Size) -> tuple[int, int, int, int]:
    """Return the box (left, upper, right, lower) of a centre crop; beyond the image it is black."""
    left, upper = ((length - wanted) // 2 for length, wanted in zip(size, crop, strict=True))
    return left, upper, left + crop[0], upper + crop[1]


# --- configs -------------------------------------------------------------------------------------


def read_preprocessing(config: Mapping[str, Any], usual: str, side: int) -> Preprocess:
    """Read an image processor's config.

    Args:
        config: As preprocessor_config.json has it.
        usual: The processor, if it names none, as in `Kind.processor`.
        side: The model's own size in pixels, for sizes that are left out.

    Raises:
        EvaluationError: It asks for what is not known here, so scores would be others than asked
            for ("model").
    """
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or usual
    name = _CLASS.sub("", str(named))
    if name not in _DEFAULTS:
        raise EvaluationError("model", f"the image processor {named} is not supported")
    whole = _DEFAULTS[name]
    usual_size = side if whole["do_center_crop"] else {"width": side, "height": side}
    known = {key: value for key, value in config.items() if value is not None}
    asked = {"size": usual_size, "crop_size": side} | whole | known
    if asked.get("do_resize") is False:
        raise EvaluationError("model", "preprocessing without do_resize is not supported")
    levels = _levels(asked, efficient=name == "EfficientNet")
    resample = int(asked.get("resample", Image.Resampling.BICUBIC))
    if resample not in FILTERS:
        raise EvaluationError("model", f"the resampling filter {resample} is not supported")
    if name == "Siglip2":
        patches = int(asked.get("patch_size", 16)), int(asked.get("max_num_patches", 256))
        return Patches(*patches, resample, levels)
    size, crop = _size(asked["size"]), _size(asked["crop_size"])
    if name == "ViT" and isinstance(size, int):  # which takes one number for both sides
        size = size, size
    if asked["do_center_crop"]:
        crop = (crop, crop) if isinstance(crop, int) else crop
        return Preprocessing(size, crop, resample, levels)
    if isinstance(size, int):
        raise EvaluationError("model", f"size {size} without do_center_crop is not supported")
    return Preprocessing(size, None, resample, levels)


def _levels(asked: Mapping[str, Any], *, efficient: bool) -> Levels:
    """Read how numbers are mapped; an EfficientNet's processor has two steps of its own."""
    mean = tuple(asked["image_mean"]) if asked.get("do_normalize", True) else None
    return Levels(
        factor=asked.get("rescale_factor", 1 / 255) if asked.get("do_rescale", True) else 1,
        shifted=efficient and asked.get("rescale_offset", False),
        mean=mean,
        std=tuple(asked["image_std"]),
        again=efficient and asked["include_top"],
    )


def _size(value: Any) -> int | Size:
    """Read 224, {"shortest_edge": 224} or {"width": 224, "height": 224}.

    Raises:
        EvaluationError: It is another ("model").
    """
    match value:
        case int():
            return value
        case {"longest_edge": int()}:
            pass
        case {"shortest_edge": int(side)}:
            return side
        case {"width": int(width), "height": int(height)}:
            return width, height
    raise EvaluationError("model", f"the size {value} of the image processor is not supported")
