"""How fast are images scored?

    python benchmarks/scoring.py [--quick] [--clip vit-b-32] [--device cuda]

Three ways give the same cosines of the same 512x512 images:

- in-loop: CLIP and its processor are loaded again for each image, on the CPU, and both towers run
  with gradients on. These are the steps of ``torchmetrics.functional.multimodal.clip_score`` as
  SimpleTuner calls it, written with transformers alone.
- resident: CLIP stays loaded; each image goes through CLIPProcessor and both towers on its own.
- clipwatch: ``clipwatch.evaluator.clip.Scorer``, all images at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from clipwatch.demo.world import captions
from clipwatch.evaluator.clip import Scorer, features
from common import (
    Goal,
    Row,
    begin,
    check_agreement,
    options,
    settle,
    show,
    take_turns,
    workplace,
)
from shapes import CLIPS, clip_folder

SIDE: Final = 512
AGREEMENT: Final = 1e-4
"""Cosines may differ by this much: sums in another order, in float32."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = options("Scoring of images, against scoring as trainers do it.")
    parser.add_argument("--clip", choices=(*CLIPS, "demo"), help="one model (default: all)")
    parser.add_argument("--images", type=int, help="images of a round (default 32, quick 8)")
    parser.add_argument("--slow-images", type=int, help="images of a round in-loop (default 2)")
    chosen = parser.parse_args(arguments)
    names = [chosen.clip] if chosen.clip else ["demo"] if chosen.quick else list(CLIPS)
    count = chosen.images or (8 if chosen.quick else 32)
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    begin(chosen.device, chosen.threads)
    with workplace(chosen.folder) as place:
        for name in names:
            measure(place, name, chosen.device, count, min(chosen.slow_images or 2, count), rounds)


def measure(place: Path, name: str, device: str, count: int, slow: int, rounds: int) -> None:
    """Measure one CLIP and print its table.

    Args:
        place: Where models are made.
        name: "demo" or a key of CLIPS.
        device: Where the resident ones compute; in-loop always takes the CPU.
        count: Images of a round.
        slow: Images of a round in-loop; seconds are per image, so it need not be as many.
        rounds: Counted rounds.
    """
    folder = clip_folder(place, name)
    images, prompts = pictures(count), list(captions()[:count])
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    processor = CLIPProcessor.from_pretrained(folder)
    scorer = Scorer(str(folder), "", device)
    one_by_one = partial(resident, model, processor, device)

    ours = scorer.score(images, prompts)
    looped = in_loop(folder, images[:slow], prompts[:slow])
    notes = [
        check_agreement("in-loop", ours[:slow], looped, AGREEMENT),
        check_agreement("resident", ours, one_by_one(images, prompts), AGREEMENT),
    ]

    def new_texts() -> None:
        scorer._texts.clear()  # noqa: SLF001 - as on the very first checkpoint
        scorer.score(images, prompts)

    seconds = take_turns(
        {
            "in-loop": lambda: in_loop(folder, images[:slow], prompts[:slow]),
            "resident": lambda: one_by_one(images, prompts),
            "ours": lambda: scorer.score(images, prompts),
            "ours, new texts": new_texts,
        },
        rounds,
        settle=partial(settle, device),
    )
    each = {
        who: [found / (slow if who == "in-loop" else count) for found in times]
        for who, times in seconds.items()
    }
    on_gpu = device.startswith("cuda")
    rows = [
        Row("an image", "in-loop", each["ours"], each["in-loop"], Goal(50 if on_gpu else 4)),
        Row("an image", "resident", each["ours"], each["resident"], None if on_gpu else Goal(2)),
        Row("an image, new texts", "in-loop", each["ours, new texts"], each["in-loop"]),
        Row("an image, new texts", "resident", each["ours, new texts"], each["resident"]),
    ]
    show(f"Scoring, CLIP {name}, {SIDE}x{SIDE} images, {count} at once, {device}", rows, notes)


def pictures(count: int) -> list[Image.Image]:
    """Return smooth random images, the same in every run."""
    noise = np.random.default_rng(0)
    coarse = noise.integers(0, 256, size=(count, 16, 16, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in coarse]


def in_loop(folder: Path, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """Return the cosines, CLIP loaded again for each of them."""
    found = []
    for image, prompt in zip(images, prompts, strict=True):
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
        pixels = (pixels * 255).unsqueeze(0)
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
        processor = CLIPProcessor.from_pretrained(folder)
        inputs = processor(text=[prompt], images=list(pixels), return_tensors="pt", padding=True)
        image_features = features(model.get_image_features(inputs["pixel_values"]))
        text_features = features(
            model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        )
        found.append(float((image_features * text_features).sum().detach()))
    return found


@torch.inference_mode()
def resident(
    model: Any,
    processor: Any,
    device: str,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
) -> list[float]:
    """Return the cosines, one image and one text after the other."""
    found = []
    for image, prompt in zip(images, prompts, strict=True):
        inputs = processor(
            text=[prompt], images=image, return_tensors="pt", padding=True, truncation=True
        ).to(device)
        output = model(**inputs)
        found.append(float((output.image_embeds * output.text_embeds).sum()))
    return found


if __name__ == "__main__":
    main()
