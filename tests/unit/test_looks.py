"""What images have in common is seen in 64 bits, and nothing in an even one."""

from __future__ import annotations

import pytest
import torch

from clipwatch.evaluator.looks import looks


def grey(levels: torch.Tensor, height: int = 64) -> torch.Tensor:
    """Return an image (height, width, 3) whose columns have these levels."""
    return levels.round().to(torch.uint8)[None, :, None].expand(height, -1, 3)


RISING = grey(torch.linspace(20, 220, 72))


@pytest.mark.parametrize("level", [0, 1, 127, 255])
@pytest.mark.parametrize("size", [(8, 9), (64, 64), (333, 517), (4, 4)])
def test_an_even_image_has_no_bit(level: int, size: tuple[int, int]) -> None:
    """Black, white or grey, of any size."""
    assert looks(torch.full((1, *size, 3), level, dtype=torch.uint8)) == ["0" * 16]


def test_gradients() -> None:
    """Brighter to the right sets all bits, to the left or downwards none."""
    falling, down = RISING.flip(1), RISING.transpose(0, 1)
    assert looks(torch.stack([RISING, falling])) == ["f" * 16, "0" * 16]
    assert looks(down[None]) == ["0" * 16]


def test_a_bit_has_its_place() -> None:
    """The first is the upper left one, and eight make a row."""
    image = torch.zeros(8, 9, 3, dtype=torch.uint8)
    image[0, 1:] = 200
    image[7, 8] = 200
    assert looks(image[None]) == [f"{1 << 63 | 1:016x}"]


@pytest.mark.parametrize(("rise", "bit"), [(2, "0"), (3, "f")])
def test_what_is_too_faint_is_even(rise: int, bit: str) -> None:
    """More than two levels of 255 from cell to cell are seen."""
    assert looks(grey(torch.arange(9.0) * rise)[None]) == [bit * 16]


def test_brightness_and_size_change_nothing() -> None:
    """The same picture darker, brighter or scaled looks the same; the other channels count, too."""
    noise = torch.Generator().manual_seed(0)
    cells = torch.randint(40, 160, (8, 9, 3), generator=noise, dtype=torch.uint8)
    one = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    two = cells.repeat_interleave(24, 0).repeat_interleave(20, 1)
    assert looks(one[None]) == looks(one[None] + 60) == looks(one[None] - 40) == looks(two[None])
    assert len({looks(one[None])[0], looks(one.flip(1)[None])[0]}) == 2


def test_each_image_of_a_batch_has_its_own() -> None:
    """More than are taken at once, in their order, and different pictures are far apart."""
    noise = torch.Generator().manual_seed(1)
    cells = torch.randint(0, 256, (21, 8, 9, 3), generator=noise, dtype=torch.uint8)
    found = looks(cells)
    assert found == [looks(image[None])[0] for image in cells]
    far = [(int(a, 16) ^ int(b, 16)).bit_count() for a in found for b in found if a != b]
    assert len(far) == 21 * 20
    assert min(far) > 10
