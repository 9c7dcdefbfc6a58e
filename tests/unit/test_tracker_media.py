"""Which images trackers show, and how they are re-encoded."""

from __future__ import annotations

import io
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.testing.series import make_protocol
from clipwatch_adapters.shared.media import jpeg, showcase


def all_scores(protocol: EvaluationProtocol) -> tuple[ImageScore, ...]:
    """Return a score with an image name for every image of the protocol."""
    return tuple(
        ImageScore(prompt.id, index, seed, {"": 0.3}, f"{prompt.id}-{index}.png")
        for prompt, index, seed in protocol.images()
    )


@given(
    categories=st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), limit=st.integers(1, 8)
)
def test_the_choice_is_spread_over_the_categories(categories: list[str], limit: int) -> None:
    """No category gives two prompts more than another that has some left; order is kept."""
    prompts = [Prompt(f"p{place}", "", category) for place, category in enumerate(categories)]
    protocol = make_protocol(prompts, images_per_prompt=2)
    chosen = showcase(protocol, all_scores(protocol), limit)
    assert len(chosen) == min(limit, len(prompts))
    assert all(score.index == 0 for score in chosen)
    places = [int(score.prompt_id[1:]) for score in chosen]
    assert places == sorted(set(places))
    taken = [categories[place] for place in places]
    for category in set(categories):
        if taken.count(category) < categories.count(category):
            assert all(taken.count(other) <= taken.count(category) + 1 for other in taken)


def test_an_image_that_was_not_kept_is_not_replaced() -> None:
    """A gap stays a gap, so that the choice is the same for every checkpoint."""
    protocol = make_protocol([Prompt(name, "", "") for name in "abc"])
    first, *rest = all_scores(protocol)
    chosen = showcase(protocol, [replace(first, image=None), *rest], limit=2)
    assert [score.prompt_id for score in chosen] == ["b"]


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("RGB", (1024, 768), (512, 384)),
        ("RGBA", (64, 48), (64, 48)),
        ("L", (10, 2000), (3, 512)),
        ("P", (8, 8), (8, 8)),
    ],
)
def test_an_image_becomes_a_small_jpeg(
    tmp_path: Path, mode: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Any image fits the square as JPEG, is never enlarged, and encodes to the same bytes again."""
    Image.new(mode, size).save(tmp_path / "image.png")
    encoded, width, height = jpeg(tmp_path / "image.png")
    assert (width, height) == expected
    with Image.open(io.BytesIO(encoded)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", expected)
    assert jpeg(tmp_path / "image.png")[0] == encoded


def test_a_label_stands_below_the_picture(tmp_path: Path) -> None:
    """The picture stays as it is; the strip below it differs with the label alone."""
    Image.new("RGB", (320, 192), (0, 128, 255)).save(tmp_path / "image.png")
    found = [jpeg(tmp_path / "image.png", label=label) for label in ("0.1", "0.2", "0.1")]
    assert found[0] == found[2] != found[1]
    for encoded, width, height in found:
        image = Image.open(io.BytesIO(encoded))
        assert image.size == (width, height) == (320, 192 + 24)
        picture, strip = image.crop((0, 0, 320, 184)), image.crop((0, 200, 320, 216)).convert("L")
        (blue,) = {picture.getpixel(spot) for spot in ((0, 0), (319, 0), (160, 100), (319, 183))}
        assert blue == pytest.approx((0, 128, 255), abs=3)
        assert strip.getextrema() == pytest.approx((0, 255), abs=60)


def test_a_tiny_picture_is_enlarged_for_its_score(tmp_path: Path) -> None:
    """As many times as it takes until the whole label fits below it, each pixel as it was."""
    Image.new("RGB", (32, 24), (0, 128, 255)).save(tmp_path / "tiny.png")
    encoded, width, height = jpeg(tmp_path / "tiny.png", label="score 0.6100")
    assert (width, height) == (64, 48 + 15)
    strip = Image.open(io.BytesIO(encoded)).convert("L").crop((0, 50, 64, 63))
    inked = [x for x in range(64) if strip.crop((x, 0, x + 1, 13)).getextrema()[0] < 128]  # type: ignore[operator]
    assert 0 < inked[0] < 8
    assert 56 < inked[-1] < 64


def test_what_is_no_image_is_an_os_error(tmp_path: Path) -> None:
    """A missing, empty, foreign, cut or boasting file is told as one kind of error."""
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    huge = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 0, 0, 0, 0)
    huge = whole[:12] + huge + struct.pack(">I", zlib.crc32(huge)) + whole[33:]
    for data in (b"", b"text", whole[:20], whole[: len(whole) // 2], huge):
        (tmp_path / "cut.png").write_bytes(data)
        with pytest.raises(OSError, match=r"."):
            jpeg(tmp_path / "cut.png")
    with pytest.raises(FileNotFoundError):
        jpeg(tmp_path / "gone.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_image_is_an_os_error(tmp_path: Path, kind: str) -> None:
    """Whatever bytes are cut or changed, an image is shown or told as unreadable, never a crash."""
    chance = random.Random(kind)
    Image.effect_noise((48, 48), 50).save(tmp_path / "image", kind)
    whole = (tmp_path / "image").read_bytes()
    refused = 0
    for _ in range(400):
        data = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole)
        for _ in range(chance.randrange(1, 9)):
            if data:  # mostly in the header, where sizes and kinds stand
                data[int(len(data) * chance.random() ** 6)] = chance.randrange(256)
        (tmp_path / "image").write_bytes(data)
        try:
            encoded, width, height = jpeg(tmp_path / "image")
        except OSError:
            refused += 1
        else:
            assert encoded.startswith(b"\xff\xd8")
            assert max(width, height) <= 512
    assert 0 < refused < 400
