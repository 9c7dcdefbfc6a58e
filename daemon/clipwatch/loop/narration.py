"""The log in plain words: what `clipwatch start` says is what was written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import (
    AdviceGiven,
    AdviceNotSent,
    AdviceSent,
    CheckpointCompleted,
    CheckpointDiscarded,
    CheckpointFound,
    DestinationChanged,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImagesDeleted,
    ImagesScored,
    ModelsChecked,
    NoLongerShown,
    OutputDirChecked,
    OutputDirMoved,
    ProtocolContinued,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.further import EvaluationRescored, ImagesRescored, ScorerAdded
from clipwatch.domain.imported import EvaluationImported, MoreShown
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.losses import LossMeasured, LossNotMeasured, losses_of
from clipwatch.domain.votes import Voted
from clipwatch.results.decisions import decided, estimated, outdone
from clipwatch.results.view import BRINGS_THEM_IN

NAMED = 4
"""Evaluations that are all named in a line."""

KINDS: dict[CheckpointKind, str] = {
    "full": "full model",
    "lora": "LoRA",
    "lycoris": "LyCORIS",
    "embeddings": "learned tokens",
    "pipeline": "whole pipeline",
}
"""What a trainer saves, by the kind of a checkpoint."""

NAMED = 3
"""Checkpoints that a line names."""

Named = Callable[[str], str]


def checkpoint(evaluation: str) -> str:
    """Name an evaluation by its checkpoint, which is enough where there is one strength."""
    return evaluation.partition("/")[0]


def story(event: Event, named: Named = checkpoint) -> str:
    """Return one line for an event of any kind, as `clipwatch log` prints it; see `narrate`."""
    return "; ".join(narrate(event, named)) or _aside(event, named)


def narrate(event: Event, named: Named = checkpoint, *, once: bool = False) -> list[str]:  # noqa: C901, PLR0911, PLR0912 - one case an event
    """Return the lines that tell a person who looks on; none for what only matters to the fold.

    Args:
        event: What happened.
        named: Names an evaluation for a person.
        once: Nobody waits for the next try: the next start is one.
    """
    match event:
        case OutputDirChecked(problem=problem):
            return [problem or "the output directory can be read"]
        case ModelsChecked(problem=problem):
            return [f"nothing can be scored: {problem}" if problem else "the models are here"]
        case ProtocolContinued(digest=digest):
            return [f"the curve of protocol {digest} goes on: nothing that it knew differs"]
        case CheckpointFound(name=name, reason=reason):
            return [f"{name}: not complete yet: {reason}"]
        case CheckpointCompleted(name=name, kind="base", path=path):
            return [f"{name}: {path} without a checkpoint, now in the queue as step 0"]
        case CheckpointCompleted(name=name, kind=kind, step=step, unit=unit):
            if unit == "file":
                return [f"{name}: {KINDS.get(kind, kind)}, file {step}, now in the queue"]
            saved = KINDS.get(kind, kind) + f", epoch {step}" * (unit == "epoch")
            return [f"{name}: saved by the trainer ({saved}), now in the queue"]
        case CheckpointDiscarded(name=name, reason=reason):
            return [f"{name}: left out: {reason}"]
        case EvaluationStarted(evaluation=id_, environment={"device": device}):
            return [f"{named(id_)}: loaded on {device}"]
        case EvaluationCompleted() as done:
            return _completed(done, named)
        case EvaluationOutdone(evaluation=id_):
            return [f"{named(id_)}: {outdone(event, named(event.by))}"]
        case LossMeasured(evaluation=id_):
            return [f"{named(id_)}: {_losses(event)}"]
        case LossNotMeasured(evaluation=id_, reason=reason):
            return [f"{named(id_)}: no held-out loss: {reason}"]
        case AdviceGiven(evaluation=id_, kind=kind, text=text):
            return [f"{named(id_)}: {kind}: {text}"]
        case AdviceSent(channel=name, advice=ids):
            scores = all(it.endswith("/scored") for it in ids)
            return [f"{name}: {'score' if scores else 'advice'} sent"]
        case AdviceNotSent(channel=name, reason=reason, retry_at=again):
            outlook = "waits for a restart" if again is None else _next_try(again, once=once)
            return [f"{name}: advice not sent: {reason} ({outlook})"]
        case EvaluationFailed(reason=reason, retry_at=again) as failed:
            outlook = "given up" if again is None else _next_try(again, once=once)
            if failed.kind == "vanished" and again is not None:
                outlook = "tried again if it comes back"
            return [f"{named(failed.evaluation)}: failed: {reason} ({outlook})"]
        case EvaluationReopened(evaluation=id_):
            return [f"{named(id_)}: to be tried again"]
        case Published(tracker=name, evaluations=ids, where=where):
            what = f"{_listed(ids, named)} published to" if ids else "all is now in"
            return [f"{name}: {what} {where}"]
        case NoLongerShown(tracker=name, evaluations=ids):
            return [f"{name}: {_listed(ids, named)} not shown any more"]
        case MoreShown(tracker=name, evaluations=ids) if ids:
            count = f"{len(ids)} result{'s' * (len(ids) > 1)}"
            listed = ", ".join(map(checkpoint, ids[:NAMED])) + ", ..." * (len(ids) > NAMED)
            return [f"{name}: shows {count} that this log lacks ({listed}); {BRINGS_THEM_IN}"]
        case OutputDirMoved(output_dir=place):
            return [f"the run goes on in {place}, with all that is known of it"]
        case PublishFailed(tracker=name, reason=reason, retry_at=again):
            outlook = "waits for a restart" if again is None else _next_try(again, once=once)
            return [f"{name}: {reason} ({outlook})"]
    return []


def _aside(event: Event, named: Named) -> str:  # noqa: PLR0911, PLR0912 - one case an event
    """Tell of what only matters to the fold."""
    match event:
        case RunStarted(output_dir=place, version=version):
            return f"clipwatch {version} begins to watch {place}; {_asked(event)}"
        case SettingsChanged(version=version):
            return f"clipwatch {version} goes on with other settings; {_asked(event)}"
        case ProtocolDefined(digest=digest, protocol=it, label=label):
            made = f"{len(it.prompts)} prompts, images of each: {it.images_per_prompt}"
            how = f"{it.width}x{it.height} pixels, {it.inference_steps} steps"
            at = f", {label}" if label else ""
            return f"protocol {digest}{at}: {made}, {how}, scored by {it.decides}"
        case EvaluationStarted(evaluation=id_):
            return f"{named(id_)}: taken up"
        case EvaluationImported(evaluation=id_, source=source, run=run):
            return f"{named(id_)}: imported from {source}, where its run is {run}"
        case DestinationChanged(name=name, place=place):
            return f"{name}: everything goes to {place} from here on"
        case ImagesDeleted(evaluation=id_, reason=reason):
            return f"{named(id_)}: images deleted: {reason}"
        case MoreShown(tracker=name):
            return f"{name}: shows nothing any more that this log lacks"
        case ScorerAdded(scorer=spec):
            return f"kept images are scored by {spec} from here on, as {spec.name}"
        case ImagesRescored(evaluation=id_, scorer=name, scores=further):
            count = f"{len(further)} kept image{'s' * (len(further) != 1)}"
            return f"{named(id_)}: {count} scored by {name}"
        case EvaluationRescored(evaluation=id_, scorer=name, summary=found):
            return f"{named(id_)}: {name}/mean {found.mean:.4f}, of {found.n} kept images"
        case ImagesScored(evaluation=id_, images=images):
            scores = sorted(it.score for it in images)
            ends = " to ".join(f"{it:.4f}" for it in dict.fromkeys(scores[:1] + scores[-1:]))
            count = f"{len(images)} image{'s' * (len(images) != 1)}"
            return f"{named(id_)}: {count} scored{f', {ends}' if ends else ''}"
        case Voted():
            return _vote(event, named)
    return type(event).__name__


def _vote(event: Voted, named: Named) -> str:
    sides = named(event.left), named(event.right)
    what = {"follows": "follows its prompt better", "better": "is better"}
    asked = f"asked which {what.get(event.question, event.question)}"
    if event.choice not in ("left", "right"):
        return f"a vote, {asked}: no difference between {' and '.join(sides)}"
    won, lost = sides if event.choice == "left" else sides[::-1]
    return f"a vote, {asked}: {won} over {lost}"


def _asked(event: RunStarted | SettingsChanged) -> str:
    digests = [event.protocol, *(event.beside if isinstance(event, SettingsChanged) else ())]
    protocols = (
        f"protocol{'s' * (len(digests) > 1)} {', '.join(digests)}, " if event.protocol else ""
    )
    return f"{protocols}trackers: {', '.join(event.trackers) or 'none'}"


def _listed(ids: Sequence[str], named: Named) -> str:
    """Name some evaluations, and of many (a whole history, say) the first two."""
    if len(ids) <= NAMED:
        return ", ".join(map(named, ids))
    return f"{', '.join(map(named, ids[:2]))} and {len(ids) - 2} more"


def _next_try(time: datetime, *, once: bool) -> str:
    return "the next start tries again" if once else f"next try at {time.astimezone():%H:%M:%S}"


def _completed(event: EvaluationCompleted, named: Named) -> list[str]:
    name, clip = named(event.evaluation), event.clip
    half = ""
    if clip.low is not None and clip.high is not None:
        half = f" ± {(clip.high - clip.low) / 2:.4f}"
    over = ""
    if best := event.against_best:
        side = "under" if best.delta < 0 else "over"
        over = f", {abs(best.delta):.4f} {side} the best before ({checkpoint(best.a)})"
    spread = f"min {clip.min:.4f}, max {clip.max:.4f}, std {clip.std:.4f}"
    made = event.seconds or event.images  # else it came in parts, or in a table
    some = f", {event.images} of them" if 0 < event.images < clip.n else ""  # the last attempt's
    took = f"{some} in {event.seconds:.0f} s" if made else ""
    cost = f"{clip.n} images{took}"
    told = f" ({estimated(event.estimate, clip.n)})" if event.estimate else ""
    lines = [f"{name}: clip/mean {clip.mean:.4f}{half}{told}{over}; {spread}; {cost}"]
    if found := event.decision:
        other = found.reference
        by = (
            f"{other.run}'s {checkpoint(other.evaluation)}"
            if other.run
            else named(other.evaluation)
        )
        lines.append(f"{name}: {decided(found, by)}")
    if event.truncated:
        count = f"{event.truncated} prompt{'s' * (event.truncated > 1)}"
        lines.append(f"{name}: {count} longer than the scorer reads: only the beginning counted")
    return lines


def _losses(event: LossMeasured) -> str:
    means = losses_of(event).means
    told = [f"held-out loss {means['heldout']:.4f}"]
    if event.trained:
        told.append(f"{means['trained']:.4f} on images of the training, gap {means['gap']:+.4f}")
    count = len(event.held) + len(event.trained)
    return f"{', '.join(told)}; {count} images in {event.seconds:.0f} s"
