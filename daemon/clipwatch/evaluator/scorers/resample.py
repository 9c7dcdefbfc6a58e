"""Pillow's resize of 8-bit images, the same to the last bit on any device.

Pillow changes the width and the height one after the other, and rounds to 8 bits after each. Its
weights are whole numbers, 2**22 for one, so either is a product of matrices of whole numbers, and
float64 holds their sums (below 2**53) exactly, in whatever order a device adds them up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import PIL
import torch
from PIL import Image

_ONE: Final = 1 << 22
_DOUBLES_BYTES: Final = 256 << 20
"""What images may take as float64 at a time."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Size = tuple[int, int]


def resize(images: torch.Tensor, size: Size, resample: int) -> torch.Tensor:
    """Return the images as `PIL.Image.resize` gives them, on the device that they are on.

    Args:
        images: (n, height, width, 3) uint8.
        size: (width, height) in pixels.
        resample: One of FILTERS.
    """
    if images.device.type == "cuda":
        return resize_by_matrices(images, size, resample)
    return resize_by_pillow(images, size, resample)  # faster on a CPU; MPS has no float64


def resize_by_pillow(images: torch.Tensor, size: Size, resample: int) -> torch.Tensor:
    """As `resize`, one image after the other on the CPU."""
    if (images.shape[2], images.shape[1]) == size:
        return images
    resized = [
        np.asarray(Image.fromarray(image).resize(size, Image.Resampling(resample)))
        for image in images.cpu().numpy()
    ]
    return torch.from_numpy(np.stack(resized)).to(images.device)


def resize_by_matrices(images: torch.Tensor, size: Size, resample: int) -> torch.Tensor:
    """As `resize`, by products of matrices on the images' own device."""
    each = 8 * images[0].numel() * max(1, math.ceil(size[0] / images.shape[2]))
    return torch.cat(
        [
            _height(_width(part, size[0], resample), size[1], resample)
            if _width_first((part.shape[2], part.shape[1]), size)
            else _width(_height(part, size[1], resample), size[0], resample)
            for part in torch.split(images, max(1, _DOUBLES_BYTES // each))
        ]
    )


def _width_first(before: Size, after: Size) -> bool:
    """Whether this Pillow changes the width first; from 13 on it looks for the cheaper order.

    (Pillow 12 does so too, but only for images more than 100 times as tall as wide.)
    """
    narrower, lower = (max(0, old - new) for old, new in zip(before, after, strict=True))
    return int(PIL.__version__.partition(".")[0]) < 13 or lower <= 2 * narrower  # noqa: PLR2004


def _width(images: torch.Tensor, width: int, resample: int) -> torch.Tensor:
    """Change the width of (n, height, width, 3)."""
    before = images.shape[2]
    if before == width:
        return images
    if resample == Image.Resampling.NEAREST:
        return images[:, :, _nearest(before, width)]
    weights = _weights(before, width, resample, images.device)
    planes = images.transpose(2, 3).contiguous()  # one large product rather than one for each row
    return _eight_bits(planes.double() @ weights.T).transpose(2, 3)


def _height(images: torch.Tensor, height: int, resample: int) -> torch.Tensor:
    """Change the height of (n, height, width, 3)."""
    count, before, width, channels = images.shape
    if before == height:
        return images
    if resample == Image.Resampling.NEAREST:
        return images[:, _nearest(before, height)]
    weights = _weights(before, height, resample, images.device)
    rows = _eight_bits(weights @ images.double().flatten(2))
    return rows.reshape(count, height, width, channels)


def _eight_bits(sums: torch.Tensor) -> torch.Tensor:
    """Divide by what stands for one, round halves up, and clip."""
    return ((sums + _ONE // 2) / _ONE).floor_().clamp_(0, 255).to(torch.uint8)


# --- weights -------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _weights(before: int, after: int, resample: int, device: torch.device) -> torch.Tensor:
    """Return (after, before) float64 of whole numbers; a row adds up to about 2**22."""
    shape, reach = _SHAPES[resample]
    scale = before / after
    stretch = max(scale, 1.0)
    centres = (np.arange(after, dtype=np.float64)[:, None] + 0.5) * scale
    places = np.arange(before, dtype=np.float64)[None, :]
    first = np.maximum(np.trunc(centres - reach * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centres + reach * stretch + 0.5), before)
    found = shape((places - centres + 0.5) * (1 / stretch))
    found = np.where((places >= first) & (places < last), found, 0.0)
    totals = np.cumsum(found, axis=1)[:, -1:]  # one after the other, as the last bit may count
    shares = found / np.where(totals == 0, 1, totals)
    whole = np.trunc(shares * _ONE + np.where(shares < 0, -0.5, 0.5))
    return torch.from_numpy(whole).to(device)


def _nearest(before: int, after: int) -> list[int]:
    """Return which of the old places each new one shows."""
    scale = before / after
    places = np.cumsum([scale * 0.5, *[scale] * (after - 1)])  # added up, as Pillow does
    return [min(int(place), before - 1) for place in places]


def _box(x: Array) -> Array:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)  # noqa: PLR2004 - half of one


def _bilinear(x: Array) -> Array:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x: Array) -> Array:
    low, high = float(np.float32(0.54)), float(np.float32(0.46))  # Pillow's constants are floats
    found = _sinc(x) * (low + high * np.cos(np.pi * x))
    return np.where(np.abs(x) >= 1, 0.0, np.where(x == 0, 1.0, found))


def _bicubic(x: Array) -> Array:
    """Catmull and Rom's."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))  # noqa: PLR2004 - pixels


def _lanczos(x: Array) -> Array:
    inside = (x >= -3) & (x < 3)  # noqa: PLR2004 - pixels
    return np.where(inside, _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: Array) -> Array:
    turned = np.where(x == 0, 1.0, x * np.pi)
    return np.where(x == 0, 1.0, np.sin(turned) / turned)


_SHAPES: Final[dict[int, tuple[Callable[[Array], Array], float]]] = {
    Image.Resampling.BOX: (_box, 0.5),
    Image.Resampling.BILINEAR: (_bilinear, 1.0),
    Image.Resampling.HAMMING: (_hamming, 1.0),
    Image.Resampling.BICUBIC: (_bicubic, 2.0),
    Image.Resampling.LANCZOS: (_lanczos, 3.0),
}
"""Filter -> its shape, and how far it reaches."""

FILTERS: Final = frozenset({Image.Resampling.NEAREST, *_SHAPES})
"""The filters that are known here; Pillow has more since 13."""
