"""How a VAE decodes: all images at once, or in ways that take less memory."""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger(__name__)


def way(pipeline: Any) -> str:
    """Tell how the VAE decodes a batch now: "whole", "sliced" (one by one) or "tiled"."""
    vae: Any = getattr(pipeline, "vae", None)
    if getattr(vae, "use_tiling", False):
        return "tiled"
    return "sliced" if getattr(vae, "use_slicing", False) else "whole"


def relieve(pipeline: Any, images: int) -> bool:
    """Decode in a way that takes less memory from here on; False if there is none left.

    Several images are decoded one by one. What is too large for that is decoded in tiles.

    Args:
        pipeline: Has the VAE.
        images: How many did not fit at once.
    """
    vae: Any = getattr(pipeline, "vae", None)
    if images > 1 and getattr(vae, "use_slicing", None) is False:
        vae.enable_slicing()
        return True
    if images == 1 and getattr(vae, "use_tiling", None) is False:
        vae.enable_tiling()
        _log.warning(
            "not even one image fits into memory: images are decoded in tiles, whose seams may"
            " show; the scores from here on are of such images"
        )
        return True
    return False
