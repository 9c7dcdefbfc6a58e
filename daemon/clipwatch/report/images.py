"""The images of the page: made smaller until they fit, then fewer."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from PIL import Image

from clipwatch.kit.ownfiles import read_own


@dataclass(frozen=True, slots=True)
class Size:
    """How an image is kept as WebP: the longest side in pixels, the quality of 100."""

    side: int
    quality: int


SIZES: Final = (Size(1024, 88), Size(512, 82), Size(256, 75), Size(128, 70))
"""The larger ones first."""

SMALL: Final = SIZES[2]
"""What the rows of the gallery need."""

SAMPLE: Final = 24
"""So many images tell how large the others will be."""

MARGIN: Final = 1.1
"""The others may be larger than those."""


def encoded(path: Path, size: Size) -> bytes | None:
    """Return an image as WebP; None for one that is gone or none."""
    try:
        with Image.open(io.BytesIO(read_own(path))) as image:
            found = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if max(found.size) > size.side:
        found.thumbnail((size.side, size.side), Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    found.save(kept, "WEBP", quality=size.quality, method=4)
    return kept.getvalue()


def as_text(count: int) -> int:
    """Return how many characters so many bytes take in the page: base64, quotes and a comma."""
    return -(-count // 3) * 4 + 3


def size_for(paths: Sequence[Path], room: int) -> Size:
    """Return the largest size at which all images will probably fit, else the smallest.

    Args:
        paths: Of all; a few of them are tried.
        room: Characters of the page that they may take.
    """
    tried = paths[:: max(1, len(paths) // SAMPLE)]
    for size in SIZES[:-1]:
        found = [len(data) for path in tried if (data := encoded(path, size)) is not None]
        if not found:
            break
        if as_text(int(sum(found) / len(found) * MARGIN)) * len(paths) <= room:
            return size
    return SIZES[-1]


def all_encoded(paths: Iterable[Path], size: Size) -> Generator[bytes | None]:
    """Yield images in their order, made by several threads: Pillow computes without the lock."""
    with ThreadPoolExecutor() as pool:
        rest = iter(paths)
        running = [pool.submit(encoded, it, size) for it in islice(rest, 64)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(encoded, it, size) for it in islice(rest, 1)]
