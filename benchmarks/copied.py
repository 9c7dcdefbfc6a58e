"""How often copies of training images are told, and how often wrongly, in worlds that are known.

Pictures are drawn, so that no fresh one is a copy, and copies are made of the training's.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from clipwatch.demo.models import CLIP
from clipwatch.demo.world import captions, draw
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.quiet import quiet_scorers
from clipwatch.evaluator.scorers.copies import WAYS, nearest_others, nearness, spread
from clipwatch.evaluator.scorers.encoder import ImageEncoder, pixels_of
from clipwatch.judging.advice import BY_CHANCE
from clipwatch.statistics.nearness import chance
from clipwatch.statistics.scale import Near

CHECKPOINTS: Final = 50
"""Of a training: so often it is looked at."""

TRAINED_ON: Final = (5, 20, 100, 300)
PROMPTS: Final = (48, 144)
SHARES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

Draw = Callable[[np.random.Generator], Image.Image]
Rows = NDArray[np.float32]


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image) -> Image.Image:
    x, y = image.width / 10, image.height / 10
    return image.resize(image.size, box=(x, y, image.width - x, image.height - y))


OTHERS: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "JPEG of quality 20": _jpeg,
    "cropped by a fifth": _cropped,
    "lighter by a fifth": lambda it: ImageEnhance.Brightness(it).enhance(1.2),
    "greyer by half": lambda it: ImageEnhance.Color(it).enhance(0.5),
    "turned by 5 degrees": lambda it: it.rotate(5, Image.Resampling.BICUBIC, fillcolor=(128,) * 3),
}
"""Kinds of copies by which clipwatch does not measure the bound."""


def shapes(generator: np.random.Generator) -> Image.Image:
    """Draw a picture of the demo's world: of its 216 captions many pictures are much alike."""
    return Image.fromarray(draw(str(generator.choice(captions())), generator))


def patches(generator: np.random.Generator) -> Image.Image:
    """Draw patches of colours, blurred into each other: no two pictures are alike."""
    coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


WORLDS: Final[dict[str, Draw]] = {"shapes": shapes, "patches": patches}


def dino(folder: Path) -> Path:
    """Write a tiny DINOv2 of random weights, large enough to tell pictures apart."""
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    model = Dinov2Model(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape) * 0.2)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=size).save_pretrained(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Seen:
    """A world as a model sees it: features of length 1, in rows.

    Attributes:
        fresh: Pictures, no two drawn together.
        copies: By kind, of the first pictures in their order.
    """

    fresh: Rows
    copies: Mapping[str, Rows]


def seen_by(encoder: ImageEncoder, world: Draw, pictures: int, copied: int) -> Seen:
    """Draw a world and look at it."""
    generator = np.random.default_rng(1)
    drawn = [world(generator) for _ in range(pictures)]

    def look(images: list[Image.Image]) -> Rows:
        found: Rows = encoder.features(torch.stack([pixels_of(it) for it in images])).numpy()
        return found

    ways = {**WAYS, **OTHERS}
    copies = {name: look([way(it) for it in drawn[:copied]]) for name, way in ways.items()}
    return Seen(look(drawn), copies)


def area(copies: Rows, fresh: Rows) -> float:
    """Return how often a copy is nearer than a fresh picture (the area under the curve)."""
    places = np.searchsorted(np.sort(fresh), copies, "left")
    ties = np.searchsorted(np.sort(fresh), copies, "right") - places
    return float(((places + ties / 2) / len(fresh)).mean())


def separation(seen: Seen, trained: int) -> Iterator[tuple[str, float]]:
    """Yield by kind how well copies are told from fresh pictures, by the nearest training image."""
    theirs = seen.fresh[:trained]
    fresh = (seen.fresh[trained:] @ theirs.T).max(axis=1)
    for name, features in seen.copies.items():
        yield name, area((features[:trained] @ theirs.T).max(axis=1), fresh)


chance_of = cache(chance)


def bound_of(seen: Seen, trained: NDArray[np.int64]) -> Near:
    """Measure a training as clipwatch does."""
    sample = trained[spread(len(trained))]
    planted = [(seen.copies[name][sample] * seen.fresh[sample]).sum(axis=1) for name in WAYS]
    return nearness(
        np.concatenate(planted).tolist(), nearest_others(torch.from_numpy(seen.fresh[trained]))
    )


@dataclass(slots=True)
class Tally:
    """What came of many trainings."""

    trainings: int = 0
    alarms: int = 0
    above: float = 0.0
    reached: float = 0.0
    told: dict[float, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))


def tallied(
    seen: Seen, size: int, prompts: int, trainings: int, generator: np.random.Generator
) -> Tally:
    """Watch trainings that copy nothing, and checkpoints of which a share are copies."""
    candidates = len(next(iter(seen.copies.values())))
    tally = Tally()
    kinds = [seen.copies[name] for name in (*WAYS, *OTHERS)]
    for _ in range(trainings):
        trained = generator.choice(candidates, size, replace=False)
        near, theirs = bound_of(seen, trained), seen.fresh[trained]
        others = np.setdiff1d(np.arange(len(seen.fresh)), trained)
        is_near = (seen.fresh[others] @ theirs.T).max(axis=1) >= near.bound
        copies = np.concatenate(
            [(it[trained] @ theirs.T).max(axis=1) >= near.bound for it in kinds]
        )
        looks = generator.choice(is_near, (CHECKPOINTS, prompts)).sum(axis=1)
        tally.trainings += 1
        tally.above += float(is_near.mean())
        tally.reached += float(copies.mean())
        tally.alarms += any(chance_of(int(it), prompts, near) < BY_CHANCE for it in looks)
        for share in SHARES:
            count = round(share * prompts)
            found = generator.choice(copies, count).sum() + looks[0] * (1 - share)
            tally.told[share] += chance_of(int(found), prompts, near) < BY_CHANCE
    return tally


def main() -> None:
    """Draw, look, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pictures and trainings")
    parser.add_argument("--trainings", type=int, default=300, help="of each kind (300)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet_scorers()
    pictures, copied = (400, 100) if options.quick else (2000, 800)
    sizes = (20, 50) if options.quick else TRAINED_ON
    prompts = PROMPTS[:1] if options.quick else PROMPTS
    trainings = 10 if options.quick else options.trainings
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, Any] = {"the demo's CLIP": CLIP, "a random DINOv2": dino(Path(folder))}
        known = {
            (world, name): seen_by(
                ImageEncoder(ScorerSpec("", str(path)), "cpu"), WORLDS[world], pictures, copied
            )
            for world, (name, path) in product(WORLDS, models.items())
        }
    columns = [f"{world}, {name}" for world, name in known]
    print(f"| copies | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    areas = [dict(separation(it, min(100, copied))) for it in known.values()]
    for kind in areas[0]:
        print(f"| {kind} | {' | '.join(f'{it[kind]:.3f}' for it in areas)} |")
    head = (
        *("world", "model", "training images", "prompts", "fresh ones beyond the bound"),
        "copies beyond it",
        f"false in {CHECKPOINTS} checkpoints",
        *(f"told, {share:.0%} copies" for share in SHARES),
    )
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for ((world, name), seen), size, count in product(known.items(), sizes, prompts):
        generator = np.random.default_rng([options.seed, size, count, *world.encode()])
        tally = tallied(seen, size, count, trainings, generator)
        told = [f"{it / tally.trainings:.2f}" for it in tally.told.values()]
        shares = [tally.above, tally.reached, tally.alarms]
        found = [f"{it / tally.trainings:.3f}" for it in shares]
        print(f"| {' | '.join((world, name, str(size), str(count), *found, *told))} |", flush=True)


if __name__ == "__main__":
    main()
