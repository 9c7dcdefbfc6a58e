"""A contact sheet: a few prompts, always the same ones, of the base, the best and the newest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipwatch.domain.protocol import Prompt
from clipwatch.kit.ownfiles import read_own
from clipwatch.prompts.subset import subset
from clipwatch.results.series import ImageScore, Result, Series, highest

if TYPE_CHECKING:
    from PIL import Image

PROMPTS: Final = 6
"""Rows of a sheet."""

LARGEST: Final = 2_000_000
"""Bytes of a sheet: what phones load at once, and less than any messenger refuses."""

SIDES: Final = (320, 224, 160, 96)
"""Pixels of an image's longer side: the first that makes a sheet small enough."""

_LINE: Final = 18
_GAP: Final = 4
_INK, _PAPER = "black", "white"


@dataclass(frozen=True, slots=True)
class Column:
    """A checkpoint of the sheet: how it is called, and prompt → its first image."""

    title: str
    scores: dict[str, ImageScore]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A PNG, and what its rows show, for those who read the message."""

    png: bytes
    prompts: tuple[Prompt, ...]


def sheet(series: Series, result: Result) -> Sheet | None:
    """Return the sheet of a result; None where none of its images is kept any more.

    It depends on nothing but what is scored and kept. Of others images may be gone: their places
    are empty.
    """
    prompts = subset(series.protocol.prompts, PROMPTS)
    columns = [Column(title, _first(series, it)) for title, it in _shown(series, result)]
    pictures = [[_opened(series.images, column, it) for column in columns] for it in prompts]
    if not any(row[-1] for row in pictures):
        return None
    for side in SIDES:
        png = _drawn(columns, prompts, pictures, side, series.digits(""))
        if len(png) <= LARGEST:
            break
    return Sheet(png, prompts)


def _shown(series: Series, result: Result) -> Iterator[tuple[str, str]]:
    """Yield titles and evaluations: the base model, the best of the others, the result itself."""
    base = result.against_base.a if result.against_base else ""
    if base:
        yield "base", base
    best = highest(it for it in series.results if it.evaluation != base) or result
    own = f"{series.unit} {result.step}"
    if best.evaluation == result.evaluation:
        yield f"{own}, the best", result.evaluation
        return
    yield f"the best: {series.unit} {best.step}", best.evaluation
    yield own, result.evaluation


def _first(series: Series, evaluation: str) -> dict[str, ImageScore]:
    return {it.prompt_id: it for it in series.scores(evaluation) if it.index == 0}


def _opened(folder: Path, column: Column, prompt: Prompt) -> Image.Image | None:
    """Return an image no larger than any sheet needs it, None for one that is gone or none."""
    from PIL import Image

    score = column.scores.get(prompt.id)
    if score is None or not score.image:
        return None
    try:
        with Image.open(BytesIO(read_own(folder / score.image))) as source:
            image = source.convert("RGB")
    # what Pillow says of some broken files
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    image.thumbnail((SIDES[0], SIDES[0]), Image.Resampling.LANCZOS)
    return image


def _drawn(
    columns: Sequence[Column],
    prompts: Sequence[Prompt],
    pictures: Sequence[Sequence[Image.Image | None]],
    side: int,
    digits: int,
) -> bytes:
    """Return the PNG: titles above, a line with its number above each row, scores below images."""
    from PIL import Image, ImageDraw, ImageFont

    there = [image.size for row in pictures for image in row if image]
    scale = min(1.0, side / max(max(size) for size in there))
    wide, high = (max(1, round(max(size[at] for size in there) * scale)) for at in (0, 1))
    across, down = max(wide, side // 2) + _GAP, high + 2 * _LINE + _GAP
    whole = Image.new("RGB", (_GAP + across * len(columns), _LINE + down * len(prompts)), _PAPER)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(_LINE * 2 // 3)

    def write(left: int, top: int, text: str, room: int) -> None:
        while text and draw.textlength(text, font) > room:
            text = text[:-1]
        draw.text((left, top), text, _INK, font)

    for place, column in enumerate(columns):
        write(_GAP + place * across, 0, column.title, across - _GAP)
    for row, prompt in enumerate(prompts):
        top = _LINE + row * down
        write(_GAP, top, f"{row + 1}  {_latin(prompt.text)}", whole.width - 2 * _GAP)
        for place, (column, image) in enumerate(zip(columns, pictures[row], strict=True)):
            left = _GAP + place * across
            if image:
                size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
                whole.paste(image.resize(size, Image.Resampling.LANCZOS), (left, top + _LINE))
            if score := column.scores.get(prompt.id):
                told = f"{score.score:.{digits}f}" + ("" if image else ", image not kept")
                write(left, top + _LINE + high, told, across - _GAP)
    made = BytesIO()
    whole.save(made, "PNG")
    return made.getvalue()


def _latin(text: str) -> str:
    """Return what the font has letters for; the message has the whole prompt."""
    return "".join(c if c.isprintable() and ord(c) < 256 else " " for c in text)  # noqa: PLR2004
