"""One checkpoint, scored at once: without a log, and kept as a part of its evaluation if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from clipwatch import __version__
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.losses import LossMeasured, losses_of
from clipwatch.domain.merging import Shard
from clipwatch.domain.retries import LARGEST_BATCH
from clipwatch.domain.sighting import Sighting, Whole
from clipwatch.domain.strengths import label
from clipwatch.executors import named
from clipwatch.executors.base import Refusal
from clipwatch.executors.messages import (
    Evaluate,
    Failed,
    Finished,
    Loaded,
    Measured,
    Reply,
    Scored,
    Working,
)
from clipwatch.kit.addresses import address
from clipwatch.kit.errors import CheckpointError
from clipwatch.layouts import look_once
from clipwatch.layouts.claims import claims_in
from clipwatch.loop.console import Console
from clipwatch.loop.preparing import MODELS, inputs_of
from clipwatch.models.identity import Identities, ModelError
from clipwatch.results.reading import ordered
from clipwatch.results.rows import DECIDES
from clipwatch.results.tables import loss_table, score_tables
from clipwatch.settings import Settings
from clipwatch.settings.simpletuner.rules import mistaken
from clipwatch.statistics.intervals import QUANTILES, describe, described, quantiles
from clipwatch.statistics.scale import LOSSES
from clipwatch.tasks import parts
from clipwatch.tasks.partfile import named as name_of_part
from clipwatch.tasks.parts import Writing

Kept = Loaded | Measured | Scored | Finished
"""What may be kept of an evaluation."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Which shard is scored, and the folder in which its part is kept."""

    folder: Path
    shard: Shard


def score_checkpoint(
    settings: Settings,
    checkpoint: Path,
    images: Path | None,
    saving: Saving | None = None,
    remote: str = "",
) -> dict[str, Any]:
    """Score a checkpoint; return the object that `clipwatch score --json` prints.

    Args:
        settings: All is used but the trackers.
        checkpoint: Its folder, or its one file.
        images: Where the scored pixels are kept as files, or None.
        saving: What is kept beyond the call, or None; the images are then kept there.
        remote: The address of which the checkpoint is a copy, "" for none.

    Raises:
        CheckpointError: It cannot be evaluated; the text says why.
        ClipwatchError: The part cannot be kept.
    """
    sighting, whole = _look(settings, checkpoint)
    console = Console()
    try:
        if saving is None:
            request = _request(settings, sighting, whole, images)
            request = msgspec.structs.replace(request, losses=settings.holding.sets)
            more: dict[str, Any] = {}

            def measured(reply: Kept) -> None:
                if isinstance(reply, Measured):
                    more["losses"] = _losses(reply)

            scores = _evaluate(settings, request, console, measured)
            return _told(settings, sighting, scores, images) | more
        place = _place(settings, checkpoint.absolute(), remote)
        with _part(settings, sighting, whole, saving, place, console) as part:
            scored = ordered(part.scored, settings.protocol)
            return {
                **_told(settings, sighting, scored, saving.folder),
                "shard": str(saving.shard),
                "part": str(part.path),
            }
    except ModelError as error:
        raise CheckpointError(str(error)) from error
    finally:
        console.close()


def _look(settings: Settings, checkpoint: Path) -> tuple[Sighting, Whole]:
    layouts = settings.watching.layouts
    sighting = look_once(checkpoint.absolute(), settings.protocol.weights, layouts)
    if not isinstance(sighting.verdict, Whole):
        inside = claims_in(checkpoint, layouts)[:1] if checkpoint.is_dir() else []
        fix = "".join(f"name one of the checkpoints in it, as {it.candidate.path}" for it in inside)
        raise CheckpointError(f"{checkpoint}: {sighting.verdict.reason}", fix=fix)
    return sighting, sighting.verdict


def _place(settings: Settings, checkpoint: Path, remote: str) -> tuple[str, str]:
    """Return the output directory that a checkpoint is of, and its own path, or address."""
    paths = settings.paths
    if remote:
        inside = paths.address and f"{remote}/".startswith(f"{paths.address}/")
        return paths.address if inside else address(remote.rpartition("/")[0]) or remote, remote
    inside = checkpoint.is_relative_to(paths.output_dir)
    return str(paths.named if inside else checkpoint.parent), ""


@contextmanager
def _part(
    settings: Settings,
    sighting: Sighting,
    whole: Whole,
    saving: Saving,
    place: tuple[str, str],
    console: Console,
) -> Iterator[Writing]:
    """Score what a part lacks of its shard; nothing is loaded where that is nothing."""
    with console.during(MODELS, "reading their files"):
        inputs = inputs_of(settings.protocol, Identities(), console.say, console.working)
    protocol = replace(settings.protocol, inputs=inputs)
    title = label(protocol.adapter_strength) if settings.protocols[1:] else ""
    defined = ProtocolDefined(protocol.digest, protocol, title)
    completed = CheckpointCompleted(
        step=sighting.step,
        name=sighting.name,
        path=place[1] or str(sighting.path),
        kind=whole.weights.kind,
        component=whole.weights.component,
        files=whole.weights.files,
        digest=whole.digest,
        unit=sighting.unit,
    )
    told = (settings.publishing.trackers, settings.as_text(), __version__)
    run = RunStarted(place[0], "", *told)
    with parts.writing(saving.folder, saving.shard, run, defined, completed) as part:
        id_ = name_of_part(completed, defined)

        def hear(reply: Kept) -> None:
            match reply:
                case Loaded(environment):
                    begun = (id_, completed.name, completed.step, completed.digest, defined.digest)
                    part.keep(EvaluationStarted(*begun, environment))
                case Scored(images):
                    below = (replace(it, image=it.image and f"{id_}/{it.image}") for it in images)
                    part.keep(ImagesScored(id_, tuple(below)))
                case Finished():
                    part.keep(reply)

        done = {(it.prompt_id, it.index) for it in part.scored}
        wanted = set(saving.shard.keys(protocol))
        if wanted and not (wanted <= done and part.finished):
            others = {(it.id, index) for it, index, _ in protocol.images()} - wanted
            request = _request(settings, sighting, whole, part.path.parent)
            request = msgspec.structs.replace(
                request, protocol=protocol, done=tuple(sorted(done | others))
            )
            _evaluate(settings, request, console, hear)
        yield part


def _request(settings: Settings, sighting: Sighting, whole: Whole, images: Path | None) -> Evaluate:
    """Return what the evaluator is asked, but for the slot."""
    weights, compute = whole.weights, settings.compute
    return Evaluate(
        path=str(sighting.path),
        kind=weights.kind,
        component=weights.component,
        files=weights.files,
        protocol=settings.protocol,
        done=(),
        images_dir=None if images is None else str(images.absolute()),
        device="",
        batch_size=compute.batch_size or 0,
        batch_limit=0 if compute.batch_size else LARGEST_BATCH,
        attention=compute.attention,
        memory_gib=compute.gpu_memory_gib,
        share=compute.share_gpu,
        image_format=settings.evaluating.image_format,
    )


def _evaluate(
    settings: Settings,
    request: Evaluate,
    console: Console,
    hear: Callable[[Kept], None],
) -> list[ImageScore]:
    """Have a request done; `hear` takes what is to be kept before the evaluator goes on."""
    executor = named.load(settings)
    slots = executor.slots()
    if isinstance(slots, Refusal):
        raise CheckpointError(slots.problem, fix=slots.fix)
    request = msgspec.structs.replace(request, device=slots[0].device, gpu=slots[0].gpu)
    replies: SimpleQueue[Reply] = SimpleQueue()
    child = executor.start(slots[0], replies.put)
    how, name = request.protocol, Path(request.path).name
    total = len(how.prompts) * how.images_per_prompt - len(request.done)
    scores: list[ImageScore] = []
    try:
        if remark := mistaken(settings, request.kind):
            console.say(f"{name}: {remark}")
        console.say(
            f"{name}: {total} images, {how.width}x{how.height}, {how.inference_steps} "
            f"steps, on {request.device}; scorer {how.decides}"
        )
        console.working(name, "starting")
        child.evaluate(request)
        while True:
            match replies.get():
                case Working(doing):
                    console.working(name, doing)
                case Loaded() as reply:
                    hear(reply)
                    console.working(name, f"0 of {total} images", 0, total)
                case Measured() as reply:
                    hear(reply)
                case Scored(images) as reply:
                    hear(reply)
                    scores += images
                    child.kept()
                    done = len(scores)
                    console.working(name, f"{done} of {total} images", done, total)
                case Failed(_, reason):
                    raise CheckpointError(f"{request.path}: {reason}")
                case Finished() as reply:
                    hear(reply)
                    return scores
    except KeyboardInterrupt:
        raise CheckpointError("stopped") from None
    finally:
        child.kill()


def _told(
    settings: Settings, sighting: Sighting, scores: Sequence[ImageScore], folder: Path | None
) -> dict[str, Any]:
    """Return what is printed; no sums of no images, as of a shard without a prompt."""
    prompts = {prompt.id: prompt for prompt in settings.protocol.prompts}
    tables = score_tables(scores)
    others = {name: asdict(describe(it)) for name, it in tables.items() if name}
    found = quantiles(tables[""]) if scores else ()
    return {
        "step": sighting.step,
        "unit": sighting.unit,
        "clip": asdict(describe(tables[""])) if scores else None,
        "quantiles": {f"{at:g}": it for at, it in zip(QUANTILES, found, strict=bool(scores))},
        **({"others": others} if others else {}),
        "images": [
            {
                "prompt_id": image.prompt_id,
                "prompt": prompts[image.prompt_id].text,
                "category": prompts[image.prompt_id].category,
                "seed": image.seed,
                "score": image.score,
                **_others(image),
                "image": None if folder is None or not image.image else str(folder / image.image),
            }
            for image in scores
        ],
    }


def _losses(said: Measured) -> dict[str, Any]:
    """Return what losses come to, with the interval of the held-out one; or why there are none."""
    if said.protocol is None:
        return {"problem": said.problem}
    found = LossMeasured("", said.protocol, said.held, said.trained)
    own = described(loss_table(found), LOSSES)
    return {
        **losses_of(found).means,
        "ci": None if own.low is None else [own.low, own.high],
        "n_images": len(said.held),
        "measured_on": said.protocol.digest,
    }


def _others(image: ImageScore) -> dict[str, Any]:
    found = {name: score for name, score in image.scores.items() if name}
    answers = {name or DECIDES: it for name, it in image.answers.items()}
    return ({"others": found} if found else {}) | ({"answers": answers} if answers else {})
