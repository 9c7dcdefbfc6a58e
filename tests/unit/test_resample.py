"""A resize by matrices gives Pillow's bytes, whatever the size, the filter and the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipwatch.evaluator.scorers import resample
from clipwatch.evaluator.scorers.resample import FILTERS, resize, resize_by_matrices
from examples import examples

LENGTHS = st.integers(1, 700) | st.integers(1, 40) | st.sampled_from([2**n for n in range(10)])


def draw(kind: str, size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return (1, height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if kind == "black and white":
        pixels = np.where(pixels < 128, np.uint8(0), np.uint8(255))
    elif kind == "edges":
        pixels[:, : size[0] // 2], pixels[: size[1] // 3] = 255, 0
    elif kind == "one level":
        pixels[:] = pixels[0, 0]
    return torch.from_numpy(pixels)[None]


def by_pillow(images: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
    """Resize as a user of Pillow does."""
    resized = [
        Image.fromarray(it.numpy()).resize(size, Image.Resampling(resample)) for it in images
    ]
    return torch.stack([torch.from_numpy(np.array(image)) for image in resized])


@given(
    before=st.tuples(LENGTHS, LENGTHS),
    after=st.tuples(LENGTHS, LENGTHS),
    kind=st.sampled_from(["noise", "black and white", "edges", "one level"]),
    kernel=st.sampled_from(sorted(FILTERS)),
    seed=st.integers(0, 1000),
)
@examples(300)
def test_bytes_are_pillows(
    before: tuple[int, int], after: tuple[int, int], kind: str, kernel: int, seed: int
) -> None:
    """Every byte is Pillow's, for all six filters."""
    images = draw(kind, before, seed)
    found = resize_by_matrices(images, after, kernel)
    assert found.dtype == torch.uint8
    assert torch.equal(found, by_pillow(images, after, kernel))


@pytest.mark.parametrize("kernel", sorted(FILTERS))
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((512, 512), (224, 224)),
        ((512, 512), (336, 336)),
        ((1024, 1024), (224, 224)),
        ((1216, 832), (327, 224)),
        ((768, 1344), (224, 224)),  # the height goes first in newer versions of Pillow
        ((224, 300), (224, 224)),
        ((336, 336), (336, 336)),
    ],
)
def test_usual_sizes(before: tuple[int, int], after: tuple[int, int], kernel: int) -> None:
    """The sizes that models generate and read come out as Pillow's, too."""
    images = draw("noise", before, seed=7)
    assert torch.equal(resize_by_matrices(images, after, kernel), by_pillow(images, after, kernel))


@pytest.mark.parametrize("kernel", sorted(FILTERS - {Image.Resampling.NEAREST}))
def test_sums_are_exact_in_any_order(kernel: int) -> None:
    """Weights are whole numbers, and float64 holds the largest sum of them with bytes."""
    for before, after in [(1024, 224), (2048, 31), (37, 500), (64, 64)]:
        weights = resample._weights(before, after, kernel, torch.device("cpu"))
        assert weights.shape == (after, before)
        assert torch.equal(weights, weights.round())
        assert 255 * weights.abs().sum(dim=1).max() < 2**53


def test_images_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once, or in parts as memory allows, are as each alone."""
    images = torch.cat([draw("noise", (61, 47), seed) for seed in range(5)])
    alone = torch.cat([resize_by_matrices(image[None], (20, 30), 3) for image in images])
    assert torch.equal(resize_by_matrices(images, (20, 30), 3), alone)
    monkeypatch.setattr(resample, "_DOUBLES_BYTES", 2 * 8 * images[0].numel())
    assert torch.equal(resize_by_matrices(images, (20, 30), 3), alone)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_changes_nothing(device: str) -> None:
    """Images stay on their device, and are Pillow's there."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    images = torch.cat([draw("noise", (200, 120), seed) for seed in range(2)])
    for kernel in FILTERS:
        found = resize(images.to(device), (64, 48), kernel)
        assert found.device.type == device
        assert torch.equal(found.cpu(), by_pillow(images, (64, 48), kernel))
