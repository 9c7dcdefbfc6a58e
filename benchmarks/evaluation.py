"""How long does the evaluation of a checkpoint take?

    python benchmarks/evaluation.py [--quick] [--shape sd15] [--device cuda]

Three ways sample and score the same prompts with the same noise:

- naive: for each checkpoint ``from_pretrained`` of the whole pipeline, one prompt at a time, PIL
  images, CLIPProcessor; only CLIP stays loaded.
- the limit: a bare loop of the pipeline at its best batch size, prompt embeddings at hand, nothing
  loaded, scored or saved.
- clipwatch: ``clipwatch.evaluator.evaluate.Evaluator``, which holds the base model and another
  checkpoint; it swaps the weights, generates, scores and saves.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPProcessor

from clipwatch.demo.world import captions
from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import CheckpointKind, Dtype
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation.opening import DTYPES
from clipwatch.executors.messages import Evaluate, Failed, Finished, Reply, Scored
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
from scoring import resident
from shapes import CLIPS, PIPELINES, clip_folder, full_checkpoint, pipeline_folder

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
AGREEMENT: Final = {"fp32": 2e-3, "bf16": 5e-2}
"""Cosines may differ by this much: a batch sums in another order, and pixels are rounded to 8 bits.

On the demo's CLIP a grey level is worth up to a thousandth."""


@dataclass(frozen=True, slots=True)
class World:
    """What is evaluated, and how.

    Attributes:
        checkpoints: Folders with `unet/`; they take turns, so that each evaluation meets another.
        images: Where clipwatch keeps images.
    """

    protocol: EvaluationProtocol
    checkpoints: tuple[Path, Path]
    images: Path
    device: str

    def call(self, prompts: int) -> dict[str, Any]:
        """Return the arguments that all three give to the pipeline."""
        how = self.protocol
        noise = [torch.Generator().manual_seed(seed) for _, _, seed in how.images()]
        return {
            "num_inference_steps": how.inference_steps,
            "guidance_scale": how.guidance,
            "width": how.width,
            "height": how.height,
            "generator": noise[:prompts],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = options("Evaluation of a checkpoint, against a naive script and against the limit.")
    parser.add_argument("--shape", choices=tuple(PIPELINES), default="demo")
    parser.add_argument("--scorer", choices=(*CLIPS, "demo"), help="default: demo, or vit-l-14-336")
    parser.add_argument("--prompts", type=int, help="default 64, quick 4")
    parser.add_argument("--steps", type=int, help="default 10 (demo) or 28, quick 2")
    parser.add_argument("--side", type=int, help="pixels (default: the shape's own)")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="default fp32, on a GPU bf16")
    parser.add_argument("--batch", type=int, help="images at once (default: the fastest is found)")
    chosen = parser.parse_args(arguments)
    demo = chosen.shape == "demo"
    begin(chosen.device, chosen.threads)
    with workplace(chosen.folder) as place:
        dtype: Dtype = chosen.dtype or ("bf16" if chosen.device.startswith("cuda") else "fp32")
        base = pipeline_folder(place, chosen.shape, DTYPES[dtype])
        scorer = clip_folder(place, chosen.scorer or ("demo" if demo else "vit-l-14-336"))
        texts = captions()[: chosen.prompts or (4 if chosen.quick else 64)]
        side = chosen.side or PIPELINES[chosen.shape]
        steps = chosen.steps or (2 if chosen.quick else 10 if demo else 28)
        protocol = protocol_of(base, scorer, texts, dtype=dtype, side=side, steps=steps)
        pair = (full_checkpoint(base, 1), full_checkpoint(base, 2))
        world = World(protocol, pair, place / "images", chosen.device)
        measure(world, chosen.shape, chosen.batch, chosen.rounds or (2 if chosen.quick else 5))


def protocol_of(
    base: Path, scorer: Path, texts: Sequence[str], *, dtype: Dtype, side: int, steps: int
) -> EvaluationProtocol:
    """Return the protocol of one image for each text."""
    return EvaluationProtocol(
        prompts=tuple(Prompt(text.replace(" ", "-"), text) for text in texts),
        images_per_prompt=1,
        seed=0,
        negative_prompt="",
        inference_steps=steps,
        guidance=3.0,
        width=side,
        height=side,
        scheduler="",
        base_model=str(base),
        base_revision="",
        base_variant="",
        weights="live",
        dtype=dtype,
        scorers=(ScorerSpec("", str(scorer)),),
    )


def measure(world: World, shape: str, batch: int | None, rounds: int) -> None:
    """Measure the three ways and print their table."""
    scorer = Path(world.protocol.decides.model)
    clip = CLIPModel.from_pretrained(scorer, dtype=torch.float32).eval().to(world.device)
    processor = CLIPProcessor.from_pretrained(scorer)
    bare = Bare(world)
    batch, tried = (batch, "") if batch else bare.best_batch()
    evaluator = Evaluator()
    phases: list[dict[str, float]] = []

    def ours(checkpoint: Path) -> list[float]:
        scores, finished = evaluate(evaluator, world, checkpoint, batch)
        phases.append(finished.phases | {"all": finished.seconds})
        return scores

    same = world.checkpoints[0]
    notes = [
        check_agreement(
            "naive",
            ours(same),
            naive(world, same, clip, processor),
            AGREEMENT[world.protocol.dtype],
        ),
        f"batch size {batch}{tried}",
    ]
    turns = {name: itertools.cycle(world.checkpoints) for name in ("naive", "ours")}
    phases.clear()
    seconds = take_turns(
        {
            "naive": lambda: naive(world, next(turns["naive"]), clip, processor),
            "limit": lambda: bare.run(batch),
            "ours": lambda: ours(next(turns["ours"])),
            "limit again": lambda: bare.run(batch),
        },
        rounds,
        settle=partial(settle, world.device),
    )
    # before and after ours: what the machine does meanwhile falls on both
    limit = [
        statistics.mean(it) for it in zip(seconds["limit"], seconds["limit again"], strict=True)
    ]
    notes.append("clipwatch's seconds, median: " + _spent(phases[1:]))
    rows = [
        Row("evaluation", "the limit", seconds["ours"], limit, Goal(1.05, faster=False)),
        Row(
            *("evaluation", "naive", seconds["ours"], seconds["naive"]),
            Goal(3 if world.device.startswith("cuda") else 2),
        ),
        Row(
            "the limit", "itself, run again", seconds["limit again"], seconds["limit"], faster=False
        ),
    ]
    how = world.protocol
    title = f"Evaluation, {shape} at {how.width}x{how.height} in {how.dtype}"
    show(
        f"{title}, {len(how.prompts)} prompts, {how.inference_steps} steps, {world.device}",
        rows,
        notes,
    )


def _spent(phases: Sequence[dict[str, float]]) -> str:
    middle = {name: statistics.median(it[name] for it in phases) for name in phases[0]}
    return ", ".join(f"{name} {seconds:.3f}" for name, seconds in middle.items())


class Bare:
    """The limit: a pipeline and its prompt embeddings, both in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pipeline = load(world, world.checkpoints[0])
        texts = [prompt.text for prompt in world.protocol.prompts]
        self._embeddings = embed(self._pipeline, texts, world.device)

    def run(self, batch: int, most: int | None = None) -> None:
        """Generate all images, or `most` of them, and do nothing with them."""
        count = most or len(self._world.protocol.prompts)
        call = self._world.call(count)
        for start in range(0, count, batch):
            part = slice(start, min(start + batch, count))
            given = {name: values[part] for name, values in self._embeddings.items()}
            noise = call["generator"][part]
            self._pipeline(**given, **call | {"generator": noise}, output_type="pt")

    def best_batch(self) -> tuple[int, str]:
        """Return the batch size at which images come fastest, and what each one took."""
        found: dict[int, float] = {}
        for size in BATCHES:
            count = min(2 * size, len(self._world.protocol.prompts))
            if size > count:
                break
            try:
                found[size] = min(self._seconds(size, count) / count for _ in range(2))
            except torch.OutOfMemoryError:
                break
        best = min(found, key=lambda size: found[size])
        return best, "; tried: " + ", ".join(
            f"{size} {seconds * 1000:.0f} ms an image" for size, seconds in found.items()
        )

    def _seconds(self, size: int, count: int) -> float:
        settle(self._world.device)
        started = time.perf_counter()
        self.run(size, count)
        settle(self._world.device)
        return time.perf_counter() - started


def load(world: World, checkpoint: Path) -> Any:
    """Load the base pipeline with a checkpoint's UNet or LoRA, as a script does."""
    base, dtype = world.protocol.base_model, DTYPES[world.protocol.dtype]
    if kind_of(checkpoint) == "full":
        unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet", dtype=dtype)
        pipeline = DiffusionPipeline.from_pretrained(base, unet=unet, dtype=dtype)
    else:
        pipeline = DiffusionPipeline.from_pretrained(base, dtype=dtype)
        pipeline.load_lora_weights(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(world.device)


def kind_of(checkpoint: Path) -> CheckpointKind:
    """Return "full" for a folder with a UNet, else "lora"."""
    return "full" if (checkpoint / "unet").is_dir() else "lora"


@torch.no_grad()
def embed(pipeline: Any, texts: list[str], device: str) -> dict[str, torch.Tensor]:
    """Return what a Stable Diffusion pipeline takes in place of prompts, with guidance."""
    names: tuple[str, ...] = ("prompt_embeds", "negative_prompt_embeds")
    names += ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    found = pipeline.encode_prompt(
        texts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    return dict(zip(names, found, strict=False))


def naive(world: World, checkpoint: Path, clip: Any, processor: Any) -> list[float]:
    """Evaluate as a script does that was written in an afternoon; return the cosines."""
    pipeline = load(world, checkpoint)
    prompts = [prompt.text for prompt in world.protocol.prompts]
    call = world.call(len(prompts))
    found = []
    for prompt, noise in zip(prompts, call["generator"], strict=True):
        images = pipeline(prompt, **call | {"generator": noise}).images
        found += resident(clip, processor, world.device, images, [prompt])
    return found


def evaluate(
    evaluator: Evaluator, world: World, checkpoint: Path, batch: int, *, skip: bool = False
) -> tuple[list[float], Finished]:
    """Evaluate with clipwatch; return the cosines and where the seconds went.

    Args:
        evaluator: Holds what it held before.
        world: Says how.
        checkpoint: Its folder.
        batch: Images at once.
        skip: Load only, as if all images were scored already.

    Raises:
        SystemExit: It failed.
    """
    request = Evaluate(
        path=str(checkpoint),
        kind=kind_of(checkpoint),
        component="unet" if kind_of(checkpoint) == "full" else "",
        files=tuple(weight_files(checkpoint)),
        protocol=world.protocol,
        done=tuple((prompt.id, index) for prompt, index, _ in world.protocol.images() if skip),
        images_dir=str(world.images),
        device=world.device,
        batch_size=batch,
    )
    messages: list[Reply] = []
    evaluator.evaluate(request, messages.append)
    last = messages[-1]
    if isinstance(last, Failed):
        sys.exit(f"clipwatch failed: {last.reason}")
    if not isinstance(last, Finished):
        sys.exit(f"clipwatch ended with {last}")
    scored = [message for message in messages if isinstance(message, Scored)]
    return [image.score for batch_ in scored for image in batch_.images], last


def weight_files(folder: Path) -> Iterator[WeightFile]:
    """Yield a checkpoint's safetensors files as the daemon finds them."""
    for path in sorted(folder.rglob("*.safetensors")):
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        yield WeightFile(name, stat.st_size, stat.st_mtime_ns, stat.st_ino)


if __name__ == "__main__":
    main()
