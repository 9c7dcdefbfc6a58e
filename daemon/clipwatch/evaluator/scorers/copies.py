"""How near copies of training images come to them, and other training images to each other.

Both are measured with the user's own model and images, so that no figure of another model's is
needed: from where on an image passes for a copy, and how often images do that are none.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image, ImageOps

from clipwatch.statistics.scale import Near

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLANTED: Final = 100
"""Of so many training images copies are made, spread over all."""

MISSED: Final = 0.05
"""Share of the copies that may be less near than the bound, and of other images that may reach it:
of copies it is more where the model sees them no better."""

SIDE: Final = 1024
"""Pixels that copies have at most, as generated images do: a photograph has more."""

_STEP: Final = 1e-6
"""The least by which bounds differ."""

_ROWS: Final = 1024


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    with Image.open(file) as found:
        return found.convert("RGB")


def _resized(image: Image.Image) -> Image.Image:
    half = (max(1, image.width // 2), max(1, image.height // 2))
    return image.resize(half, Image.Resampling.BILINEAR).resize(image.size)


def _cropped(image: Image.Image) -> Image.Image:
    """Leave a twentieth away on each side."""
    x, y = image.width / 20, image.height / 20
    return image.resize(image.size, box=(x, y, image.width - x, image.height - y))


def _noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


WAYS: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "JPEG of quality 50": _jpeg,
    "half the size and back": _resized,
    "cropped by a tenth": _cropped,
    "mirrored": ImageOps.mirror,
    "noise of 8 levels": _noisy,
}
"""How copies differ from what they were made of."""


def copies_of(image: Image.Image) -> list[Image.Image]:
    """Return a copy of each kind."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    return [way(small) for way in WAYS.values()]


def spread(count: int) -> list[int]:
    """Return the places, of so many, of those that copies are made of."""
    step = max(1.0, count / PLANTED)
    return [int(place * step) for place in range(min(count, PLANTED))]


def nearest_others(features: torch.Tensor) -> torch.Tensor:
    """Return (n,) the highest cosine of each with another one; none where there is no other.

    Args:
        features: (n, dim) of length 1.
    """
    if len(features) < 2:  # noqa: PLR2004 - one has no other
        return features.new_zeros(0)
    found = []
    for first in range(0, len(features), _ROWS):
        cosines = features[first : first + _ROWS] @ features.T
        own = torch.arange(len(cosines), device=features.device)
        cosines[own, own + first] = -torch.inf
        found.append(cosines.max(dim=1).values)
    return torch.cat(found)


def nearness(copies: Sequence[float], others: torch.Tensor) -> Near:
    """Return the bound that nearly all copies reach, but not below what few others do.

    Args:
        copies: Cosines of copies with what they were made of.
        others: See `nearest_others`.
    """
    bound = float(np.quantile(copies, MISSED))
    if len(others):
        few = others.sort(descending=True).values[int(len(others) * MISSED)]
        bound = max(bound, float(few) + _STEP)
    bound = round(min(bound, 1 - _STEP), 6)  # which the very same picture reaches
    reached = float(np.mean(np.asarray(copies) >= bound))
    return Near(bound, int((others >= bound).sum()), len(others), round(reached, 3))
