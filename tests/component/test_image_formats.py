"""Images are kept as PNG or WebP, and both give back the very pixels that were scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import evaluator_kit as kit
from clipwatch.domain.kinds import ImageFormat
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.images import pixels_digest, save_image
from clipwatch.report.images import SIZES, encoded
from clipwatch_adapters.shared.media import jpeg

pytestmark = kit.QUIET

FORMS: tuple[ImageFormat, ...] = ("png", "webp")


def pixels(kind: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what is hard to keep: noise, hard edges, even planes, odd sizes."""
    rng = np.random.default_rng(1)
    if kind == "noise":
        return rng.integers(0, 256, (65, 33, 3), np.uint8)
    if kind == "one":
        return np.full((1, 1, 3), (255, 0, 1), np.uint8)
    image = np.zeros((96, 128, 3), np.uint8)
    if kind == "edges":
        image[::2, ::3] = (255, 1, 254)
        image[40:, :7, 1] = 3
    return image


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["noise", "one", "even", "edges"])
def test_decoding_gives_the_same_pixels(tmp_path: Path, kind: str, form: str) -> None:
    """Each value of each channel, in a file of that kind."""
    made = pixels(kind)
    save_image(torch.from_numpy(made), tmp_path / f"x.{form}")
    with Image.open(tmp_path / f"x.{form}") as image:
        assert image.format == form.upper()
        assert np.array_equal(np.asarray(image.convert("RGB")), made)


def test_readers_take_both(tmp_path: Path) -> None:
    """The page and the trackers make the same of either."""
    made = torch.from_numpy(pixels("noise"))
    for form in FORMS:
        save_image(made, tmp_path / f"x.{form}")
    assert encoded(tmp_path / "x.png", SIZES[0]) == encoded(tmp_path / "x.webp", SIZES[0])
    assert jpeg(tmp_path / "x.png", label="0.3") == jpeg(tmp_path / "x.webp", label="0.3")


def test_an_evaluation_keeps_what_it_scored(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """The same scores and pixels whichever the format; the log names the file and its pixels."""
    how = kit.protocol(world / "base")
    told = {}
    for form in FORMS:
        request = kit.request(
            *(world / "lora", "lora", how), images=tmp_path, batch_size=4, image_format=form
        )
        told[form] = {(it.prompt_id, it.index): it for it in kit.scores_of(evaluator, request)}
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".webp"}
    for key, kept in told["png"].items():
        other = told["webp"][key]
        assert (kept.image, other.image) == (f"{key[0]}-{key[1]}.png", f"{key[0]}-{key[1]}.webp")
        assert replace(other, image=kept.image, scores=kept.scores) == kept
        for image in (kept, other):
            with Image.open(tmp_path / str(image.image)) as file:
                found = torch.from_numpy(np.array(file.convert("RGB")))
            assert pixels_digest(found) == image.pixels
