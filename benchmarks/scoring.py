"""How fast are images scored?

    python benchmarks/scoring.py [--quick] [--clip vit-b-32] [--device cuda] [--torchmetrics PYTHON]

Three or four ways give the same cosines of the same 512x512 images:

- in-loop: CLIP and its processor are loaded again for each image, on the CPU, and both towers run
  with gradients on. These are the steps of ``torchmetrics.functional.multimodal.clip_score`` as
  SimpleTuner calls it, written with transformers alone.
- torchmetrics: that function itself, where PYTHON is that of an environment with torchmetrics 1.9
  and transformers 4.57. It has no scores below 0.
- resident: CLIP stays loaded; each image goes through CLIPProcessor and both towers on its own.
- clipwatch: ``clipwatch.evaluator.scorers.dual_encoder.DualEncoder``, all images at once, as a
  tensor on the device, where generation leaves them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from clipwatch.demo.world import captions
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder, features
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

TORCHMETRICS_AGREEMENT: Final = 1e-3
"""And by this much where images are resized by another version of transformers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = options("Scoring of images, against scoring as trainers do it.")
    parser.add_argument("--clip", choices=(*CLIPS, "demo"), help="one model (default: all)")
    parser.add_argument("--images", type=int, help="images of a round (default 32, quick 8)")
    parser.add_argument("--slow-images", type=int, help="images of a round in-loop (default 2)")
    parser.add_argument(
        "--torchmetrics", metavar="PYTHON", help="measure torchmetrics with it, too"
    )
    chosen = parser.parse_args(arguments)
    names = [chosen.clip] if chosen.clip else ["demo"] if chosen.quick else list(CLIPS)
    count = chosen.images or (8 if chosen.quick else 32)
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    begin(chosen.device, chosen.threads)
    with workplace(chosen.folder) as place:
        for name in names:
            slow = min(chosen.slow_images or 2, count)
            measure(place, name, chosen.device, count, slow, rounds, chosen.torchmetrics)


def measure(
    place: Path,
    name: str,
    device: str,
    count: int,
    slow: int,
    rounds: int,
    python: str | None,
) -> None:
    """Measure one CLIP and print its table.

    Args:
        place: Where models are made.
        name: "demo" or a key of CLIPS.
        device: Where the resident ones compute; in-loop always takes the CPU.
        count: Images of a round.
        slow: Images of a round in-loop; seconds are per image, so it need not be as many.
        rounds: Counted rounds.
        python: Of the environment with torchmetrics; None to leave it out.
    """
    folder = clip_folder(place, name)
    images, prompts = pictures(count), list(captions()[:count])
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    processor = CLIPProcessor.from_pretrained(folder)
    scorer = DualEncoder(ScorerSpec("", str(folder)), device)
    one_by_one = partial(resident, model, processor, device)

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).to(device)
    ours = scorer.score(pixels, prompts)
    looped = in_loop(folder, images[:slow], prompts[:slow])
    notes = [
        check_agreement("in-loop", ours[:slow], looped, AGREEMENT),
        check_agreement("resident", ours, one_by_one(images, prompts), AGREEMENT),
    ]

    def new_texts() -> None:
        scorer._texts.clear()  # noqa: SLF001 - as on the very first checkpoint
        scorer.score(pixels, prompts)

    candidates: dict[str, Callable[[], object]] = {
        "in-loop": lambda: in_loop(folder, images[:slow], prompts[:slow]),
        "resident": lambda: one_by_one(images, prompts),
        "ours": lambda: scorer.score(pixels, prompts),
        "ours, new texts": new_texts,
    }
    with ExitStack() as stack:
        if python:
            peer = stack.enter_context(torchmetrics(python, place, folder, images[:slow]))
            found = [score / 100 for score in peer(prompts[:slow])]
            limit = TORCHMETRICS_AGREEMENT
            expected = [max(score, 0.0) for score in ours[:slow]]
            agreed = check_agreement("torchmetrics", expected, found, limit)
            notes.append(f"{agreed}, {sum(score > 0 for score in found)} of them above 0")
            candidates["torchmetrics"] = lambda: peer(prompts[:slow])
        seconds = take_turns(candidates, rounds, settle=partial(settle, device))
    each = {
        who: [found / (slow if who in {"in-loop", "torchmetrics"} else count) for found in times]
        for who, times in seconds.items()
    }
    on_gpu = device.startswith("cuda")
    goals = {
        "in-loop": Goal(50 if on_gpu else 4),
        "torchmetrics": Goal(50 if on_gpu else 4),
        "resident": None if on_gpu else Goal(2),
    }
    peers = [who for who in goals if who in each]
    rows = [
        *(Row("an image", who, each["ours"], each[who], goals[who]) for who in peers),
        *(Row("an image, new texts", who, each["ours, new texts"], each[who]) for who in peers),
    ]
    show(f"Scoring, CLIP {name}, {SIDE}x{SIDE} images, {count} at once, {device}", rows, notes)


@contextmanager
def torchmetrics(
    python: str, place: Path, folder: Path, images: Sequence[Image.Image]
) -> Iterator[Callable[[Sequence[str]], list[float]]]:
    """Yield what scores the images against texts, 100 times the cosine, in a process of its own."""
    model = place / f"openai-{folder.name}"  # it takes no other names
    if not model.exists():
        model.symlink_to(folder.absolute(), target_is_directory=True)
    data = place / "images.npy"
    np.save(data, np.stack([np.asarray(image) for image in images]))
    script = Path(__file__).with_name("torchmetrics_peer.py")
    command = [python, str(script), str(model), str(data), str(torch.get_num_threads())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def scores(prompts: Sequence[str]) -> list[float]:
            print(json.dumps(list(prompts)), file=process.stdin, flush=True)
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                sys.exit(f"{python} {script.name} ended before it answered")
            found: list[float] = json.loads(line)
            return found

        yield scores


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
