"""Images for trackers: which of an evaluation's are shown, and how small."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clipwatch.results.series import EvaluationProtocol, ImageScore

QUALITY = 88
"""Of the JPEGs: about 50 kB at 512 pixels."""


def showcase(
    protocol: EvaluationProtocol, scores: Iterable[ImageScore], limit: int = 8
) -> tuple[ImageScore, ...]:
    """Pick the images to show: the first image of up to `limit` prompts, in the protocol's order.

    The prompts depend on the protocol alone, so every checkpoint shows the same ones. They take
    turns by category: each gives its first prompt before any gives its second. A chosen prompt
    whose image was not kept is left out, not replaced.
    """
    taken: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for place, prompt in enumerate(protocol.prompts):
        turns.append((taken[prompt.category], place))
        taken[prompt.category] += 1
    first = {score.prompt_id: score for score in scores if score.index == 0 and score.image}
    chosen = [protocol.prompts[place].id for place in sorted(p for _, p in sorted(turns)[:limit])]
    return tuple(first[prompt_id] for prompt_id in chosen if prompt_id in first)


def jpeg(path: Path, max_side: int = 512, label: str = "") -> tuple[bytes, int, int]:
    """Re-encode an image file as a JPEG that fits a square of `max_side` pixels.

    A `label`, a few Latin letters or digits, comes on a strip of its own below the picture.

    Returns:
        (bytes, width, height); the same file always gives the same bytes.

    Raises:
        OSError: The file is gone, unreadable or no image.
    """
    return encoded(shown(path, label, max_side), "JPEG")


def encoded(image: Image.Image, form: str) -> tuple[bytes, int, int]:
    """Encode an image, as "JPEG" or "WEBP"; see `jpeg`."""
    data = BytesIO()
    image.save(data, form, quality=QUALITY)
    return data.getvalue(), image.width, image.height


def shown(path: Path, label: str = "", max_side: int = 512) -> Image.Image:
    """Open an image file as it is shown; see `jpeg`.

    Raises:
        OSError: The file is gone, unreadable or no image.
    """
    try:
        with Image.open(path) as source:
            image = source.convert("RGB")
    # what Pillow says of some broken files
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path} is not an image that can be read: {error}") from error
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    if label:
        image = _labelled(image, label)
    return image


def _labelled(image: Image.Image, label: str) -> Image.Image:
    size = max(10, image.width // 20)
    font = ImageFont.load_default(size)
    times = math.ceil(font.getlength(label) / image.width)  # more than once for a tiny picture
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    whole = Image.new("RGB", (image.width, image.height + size * 3 // 2), "white")
    whole.paste(image)
    middle = (image.width / 2, image.height + size * 3 / 4)
    ImageDraw.Draw(whole).text(middle, label, "black", font, anchor="mm")
    return whole
