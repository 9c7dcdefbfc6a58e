"""The shapes world: 216 captions, and pictures drawn after them with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SIZE = 32
"""Width and height of every picture, in pixels."""

COUNTS: Mapping[str, int] = MappingProxyType({"one": 1, "two": 2, "three": 3})
COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (225, 30, 30),
        "green": (20, 150, 40),
        "blue": (35, 70, 235),
        "yellow": (250, 220, 30),
        "purple": (150, 40, 190),
        "cyan": (40, 210, 225),
    }
)
SHAPES: Mapping[str, str] = MappingProxyType(
    {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
)
BACKGROUNDS: Mapping[str, int] = MappingProxyType({"black": 0, "grey": 128, "white": 255})


@dataclass(frozen=True, slots=True)
class Scene:
    """What one caption says: words that are keys of the four tables above."""

    count: str
    colour: str
    shape: str
    background: str

    @property
    def caption(self) -> str:
        """The scene in words, for example ``two red circles on a white background``."""
        noun = self.shape if COUNTS[self.count] == 1 else SHAPES[self.shape]
        return f"{self.count} {self.colour} {noun} on a {self.background} background"


@cache
def scenes() -> Mapping[str, Scene]:
    """All 216 scenes by their captions, in a fixed order."""
    made = (Scene(*words) for words in product(COUNTS, COLOURS, SHAPES, BACKGROUNDS))
    return MappingProxyType({scene.caption: scene for scene in made})


def captions() -> tuple[str, ...]:
    """All 216 captions, each different, in a fixed order."""
    return tuple(scenes())


def draw(caption: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one picture that the caption is true of.

    Place and size of the objects are random; they never touch each other or the border.
    Equal captions and equal states of ``rng`` give equal pictures.

    Returns:
        (32, 32, 3) uint8, RGB, 0..255.

    Raises:
        ValueError: the caption is not one of ``captions()``.
    """
    scene = scenes().get(caption)
    if scene is None:
        msg = f"not a caption of the shapes world: {caption!r}"
        raise ValueError(msg)
    radius = float(rng.uniform(5.0, 6.0))
    picture = np.full((SIZE, SIZE, 3), BACKGROUNDS[scene.background], dtype=np.float64)
    colour = np.array(COLOURS[scene.colour], dtype=np.float64)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    for x, y in _centres(COUNTS[scene.count], radius, rng):
        outside = _distance(scene.shape, columns - x, rows - y, radius)
        cover = np.clip(0.5 - outside, 0.0, 1.0)[..., None]
        picture += cover * (colour - picture)
    return np.rint(picture).astype(np.uint8)


def _centres(count: int, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (count, 2) float64 centres, in pixels, whose bounding squares keep a pixel apart."""
    margin = radius + 1.0
    while True:
        centres = rng.uniform(margin, SIZE - margin, size=(count, 2))
        apart = np.abs(centres[:, None] - centres[None]).max(axis=-1)
        apart[np.diag_indices(count)] = np.inf
        if apart.min() >= 2 * radius + 1.0:
            return centres


def _distance(
    shape: str, x: NDArray[np.float64], y: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Pixels from each point to the shape's edge, negative inside; all arrays (32, 32) float64."""
    across, down, arm = np.abs(x), np.abs(y), radius / 3.0
    outside: NDArray[np.float64]
    match shape:
        case "circle":
            outside = np.hypot(x, y) - radius
        case "square":
            outside = np.maximum(across, down) - radius
        case "triangle":
            outside = np.maximum((2.0 * across - y - radius) / 5.0**0.5, y - radius)
        case _:
            upright = np.maximum(across - arm, down - radius)
            outside = np.minimum(upright, np.maximum(down - arm, across - radius))
    return outside
