"""The scored pixels as files: without loss, whole or not there, for whom their folder is.

And how the files of others are read.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from clipwatch.domain.kinds import ImageFormat

_HOW: Final[dict[str, dict[str, Any]]] = {
    ".png": {"format": "PNG", "compress_level": 1},
    ".webp": {"format": "WEBP", "lossless": True, "quality": 20, "method": 1},  # both are effort
}
"""By its name's end, how an image is written: fast, as the next batch may wait for it."""

_LONGEST_NAME: Final = 80


def image_name(prompt_id: str, index: int, form: ImageFormat = "png") -> str:
    """Return the file name of an image: its own for each (id, index), on any file system."""
    safe = re.sub(r"[^a-z0-9._-]", "_", prompt_id)
    if safe != prompt_id or not 0 < len(safe) <= _LONGEST_NAME or safe.startswith((".", "-")):
        # "~" stands in no safe id, so no id can be made up to meet another one's name
        digest = hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        safe = f"{safe.lstrip('.-')[:_LONGEST_NAME] or 'prompt'}~{digest}"
    return f"{safe}-{index}.{form}"


def save_image(pixels: torch.Tensor, path: Path) -> None:
    """Write an image that is whole or not there; nobody may read it who may not read its folder.

    Args:
        pixels: (height, width, 3) uint8 on any device.
        path: Of a PNG or a WebP, by its end; its folder is made if it is not there.

    Raises:
        OSError: The disk is full, or the folder is not ours to write to.
    """
    access = 0o666 & _made(path.parent)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.unlink(missing_ok=True)  # of an evaluator that was killed
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, access)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - it is no path
            Image.fromarray(pixels.cpu().numpy()).save(file, **_HOW[path.suffix])
            file.flush()
            os.fsync(handle)  # the log will tell of it; and NFS says only now that it is full
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def upright(data: bytes) -> Image.Image:
    """Return an image as trainers read it: turned as its file says, in RGB.

    Raises:
        Exception: It is none; Pillow's readers raise whatever they come upon.
    """
    try:
        source = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # which names an address in memory
        raise ValueError("its format is not known") from None
    with source as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def pixels_digest(pixels: torch.Tensor) -> str:
    """Return the CRC-32 of (height, width, 3) uint8 in host memory, as 8 hex digits."""
    return f"{zlib.crc32(pixels.contiguous().numpy().data):08x}"


def _made(folder: Path) -> int:
    """Make a folder, as accessible as the one it lies in, if it is not there; return its mode."""
    if not folder.exists():
        folder.mkdir(mode=_made(folder.parent) & 0o777, exist_ok=True)
    return folder.stat().st_mode
