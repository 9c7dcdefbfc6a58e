"""Folders of images that belong to a scorer: a subject's, or those of a training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn

from clipwatch.layouts.files import refusal
from clipwatch.models.files import Unfit

ENDS: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Of the names of images, in small or capital letters."""

MOST: Final = 10_000
"""Images of a folder: before each evaluation every one is asked whether it is as it was."""


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder and below it, sorted; hidden ones are passed over.

    No link to a folder is followed.

    Raises:
        Unfit: It is no folder, has no image, or more than MOST.
        NotReadable: Somebody else's.
    """
    if not folder.is_dir():
        raise Unfit(f"there is no folder {str(folder)!r}")
    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [it for it in folders if not it.startswith(".")]
        shown = (it for it in names if not it.startswith(".") and it.lower().endswith(ENDS))
        found += [Path(root, it) for it in shown]
        if len(found) > MOST:
            raise Unfit(f"{str(folder)!r} has more than {MOST} images: name a part of it")
    if not found:
        raise Unfit(f"{str(folder)!r} has no images ({', '.join(ENDS)})")
    return sorted(found)


def _refuse(error: OSError) -> NoReturn:
    if isinstance(error, PermissionError):
        raise refusal(Path(error.filename)) from error
    raise error
