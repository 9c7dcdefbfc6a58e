"""One checkpoint, scored at once: no log, no tracker, nothing kept but the images asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from clipwatch.domain.events import ImageScore
from clipwatch.domain.retries import LARGEST_BATCH
from clipwatch.domain.sighting import Whole
from clipwatch.executors import named
from clipwatch.executors.base import Executor, Refusal, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working
from clipwatch.kit.errors import CheckpointError
from clipwatch.layouts import look_once
from clipwatch.layouts.claims import claims_in
from clipwatch.loop.console import Console
from clipwatch.results.tables import score_tables
from clipwatch.settings import Settings
from clipwatch.settings.simpletuner.rules import mistaken
from clipwatch.statistics.intervals import QUANTILES, describe, quantiles


def score_checkpoint(settings: Settings, checkpoint: Path, images: Path | None) -> dict[str, Any]:
    """Score a checkpoint; return the object that `clipwatch score --json` prints.

    Args:
        settings: Everything but the output directory and the trackers is used.
        checkpoint: Its folder, or its one file.
        images: Where the scored pixels are kept as files, or None.

    Raises:
        CheckpointError: It cannot be evaluated; the text says why.
    """
    layouts = settings.watching.layouts
    sighting = look_once(checkpoint.absolute(), settings.protocol.weights, layouts)
    if not isinstance(sighting.verdict, Whole):
        inside = claims_in(checkpoint, layouts)[:1] if checkpoint.is_dir() else []
        fix = "".join(f"name one of the checkpoints in it, as {it.candidate.path}" for it in inside)
        raise CheckpointError(f"{checkpoint}: {sighting.verdict.reason}", fix=fix)
    weights = sighting.verdict.weights
    executor = named.load(settings)
    slots = executor.slots()
    if isinstance(slots, Refusal):
        raise CheckpointError(slots.problem, fix=slots.fix)
    request = Evaluate(
        path=str(sighting.path),
        kind=weights.kind,
        component=weights.component,
        files=weights.files,
        protocol=settings.protocol,
        done=(),
        images_dir=None if images is None else str(images.absolute()),
        device=slots[0].device,
        batch_size=settings.compute.batch_size or 0,
        batch_limit=0 if settings.compute.batch_size else LARGEST_BATCH,
        attention=settings.compute.attention,
        gpu=slots[0].gpu,
        memory_gib=settings.compute.gpu_memory_gib,
        share=settings.compute.share_gpu,
        image_format=settings.evaluating.image_format,
    )
    scores = _evaluate(executor, slots[0], checkpoint, request, mistaken(settings, weights.kind))
    prompts = {prompt.id: prompt for prompt in settings.protocol.prompts}
    tables = score_tables(scores)
    found = quantiles(tables[""])
    others = {name: asdict(describe(it)) for name, it in tables.items() if name}
    return {
        "step": sighting.step,
        "unit": sighting.unit,
        "clip": asdict(describe(tables[""])),
        "quantiles": {f"{at:g}": value for at, value in zip(QUANTILES, found, strict=True)},
        **({"others": others} if others else {}),
        "images": [
            {
                "prompt_id": image.prompt_id,
                "prompt": prompts[image.prompt_id].text,
                "category": prompts[image.prompt_id].category,
                "seed": image.seed,
                "score": image.score,
                **_others(image),
                "image": None
                if images is None or image.image is None
                else str(images / image.image),
            }
            for image in scores
        ],
    }


def _others(image: ImageScore) -> dict[str, Any]:
    found = {name: score for name, score in image.scores.items() if name}
    return {"others": found} if found else {}


def _evaluate(
    executor: Executor, slot: Slot, checkpoint: Path, request: Evaluate, remark: str
) -> list[ImageScore]:
    replies: SimpleQueue[Reply] = SimpleQueue()
    child = executor.start(slot, replies.put)
    console = Console()
    total = len(request.protocol.prompts) * request.protocol.images_per_prompt
    scores: list[ImageScore] = []
    try:
        if remark:
            console.say(f"{checkpoint.name}: {remark}")
        how = request.protocol
        console.say(
            f"{checkpoint.name}: {total} images, {how.width}x{how.height}, {how.inference_steps} "
            f"steps, on {request.device}; scorer {how.decides}"
        )
        console.working(checkpoint.name, "starting")
        child.evaluate(request)
        while True:
            match replies.get():
                case Working(doing):
                    console.working(checkpoint.name, doing)
                case Loaded():
                    console.working(checkpoint.name, f"0 of {total} images", 0, total)
                case Scored(images):
                    scores += images
                    child.kept()
                    done = len(scores)
                    console.working(checkpoint.name, f"{done} of {total} images", done, total)
                case Failed(_, reason):
                    raise CheckpointError(f"{checkpoint}: {reason}")
                case Finished():
                    return scores
    except KeyboardInterrupt:
        raise CheckpointError("stopped") from None
    finally:
        child.kill()
        console.close()
