"""What images look like, in 64 bits each: images that look alike share nearly all of them."""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.functional import interpolate

_LUMINANCE: Final = (299.0, 587.0, 114.0)  # whole numbers, which floats add up exactly
_ROWS: Final = 8
_COLUMNS: Final = 9
_LEVELS: Final = 2.0 * sum(_LUMINANCE)  # less is noise, and an even image has to have no bit
_AT_ONCE: Final = 8  # in floats, large images are large


def looks(images: torch.Tensor) -> list[str]:
    """Return the difference hash of each image as 16 hex digits.

    Luminance is averaged over 8 rows of 9 cells; a bit says that a cell is brighter than its left
    neighbour by more than 2 levels. The first bit is the upper left one. An even image has none.

    Args:
        images: (n, height, width, 3) uint8 on any device, on which it is computed.
    """
    weights = torch.tensor(_LUMINANCE, device=images.device)
    cells = torch.cat(
        [
            interpolate((part.float() @ weights)[:, None], size=(_ROWS, _COLUMNS), mode="area")
            for part in torch.split(images, _AT_ONCE)
        ]
    )
    bits = (cells.diff(dim=-1) > _LEVELS).flatten(1).int().tolist()
    return [f"{int(''.join(map(str, row)), 2):016x}" for row in bits]
