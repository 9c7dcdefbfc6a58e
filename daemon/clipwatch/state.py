"""What the log means (see `fold`), and what follows from it.

Pure: no files, no clock, no torch. A test is `assert decide(state, now) == [...]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from clipwatch import events as e
from clipwatch.layouts.sighting import Partial, Sighting, Unusable, Weights, Whole
from clipwatch.protocol import EvaluationProtocol
from clipwatch.statistics import Summary

RETRY_SECONDS = (30.0, 120.0, 600.0, 1800.0)
"""Pauses after the first, second, ... failure in a row; the last one repeats."""

BASE = "base"
"""The kind of the checkpoint that is none: the base model alone."""

BASE_NAME = "base-model"
"""Its name; those of a trainer's checkpoints have a number in them."""

LARGEST_BATCH = 64
"""Images generated at once when clipwatch looks for the best number itself."""

SPREAD = 0.25
"""By how much of itself a pause may be longer, so that many daemons do not return all at once."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder as last seen, and since when it is so.

    `state` is "partial", "whole" or "discarded".
    """

    step: int
    name: str
    path: str
    state: str
    reason: str = ""
    kind: str = ""
    component: str = ""
    files: tuple[e.WeightFile, ...] = ()
    digest: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One checkpoint's weights under one protocol; `state` is "running", "failed" or "scored".

    `retry_at` None in a failed one means that it is given up. `done` names the images scored so
    far and is emptied when the evaluation is scored, so that long runs fold into little memory.
    `attempt` counts the failures in a row without an image in between, `cramped` all those that a
    smaller batch may mend. `images` and `seconds` tell how many the attempt that finished made, and
    in which time; `completed` all that was said of a scored one.
    """

    id: str
    checkpoint: str
    step: int
    digest: str
    protocol: str
    state: str
    done: frozenset[tuple[str, int]] = frozenset()
    clip: Summary | None = None
    finished: datetime | None = None
    kind: str = ""
    reason: str = ""
    attempt: int = 0
    retry_at: datetime | None = None
    cramped: int = 0
    images: int = 0
    seconds: float = 0.0
    completed: e.EvaluationCompleted | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """What may matter beside the protocol; where attempts differed, "one, then another"."""


@dataclass(frozen=True, slots=True)
class TrackerState:
    """What a tracker is known to show; `parked`: it waits for somebody to mend something."""

    published: AbstractSet[str] = frozenset()
    where: str = ""
    attempt: int = 0
    reason: str = ""
    retry_at: datetime | None = None
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One output directory: all that happened to its checkpoints."""

    name: str
    output_dir: str
    protocol: str
    tracker_names: tuple[str, ...]
    settings: Mapping[str, str]
    problem: str = ""
    lacking: str = ""
    """Why the models cannot be used, "" when they can."""
    protocols: Mapping[str, EvaluationProtocol] = field(default_factory=dict)
    """By digest, in the order of their first use."""
    continued: Mapping[str, str] = field(default_factory=dict)
    """Digest of a protocol → that of the earlier one whose curve it continues."""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    scored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Protocol → evaluations in the order of their scoring: the place of one is its seq."""
    trackers: Mapping[str, TrackerState] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds that finished evaluations took, by phase."""
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    """Protocol → the batch size that was found best."""
    advice: tuple[e.AdviceGiven, ...] = ()
    """In the order in which it was given, under all protocols."""
    channels: Mapping[str, TrackerState] = field(default_factory=dict)
    """What advice each channel took, as for trackers; named EVALUATION/KIND."""


State = Mapping[str, Run]
"""Runs by name."""


def evaluation_id(checkpoint: Checkpoint, protocol: str) -> str:
    """Name an evaluation: the same weights under the same protocol are one evaluation."""
    return f"{checkpoint.name}/{checkpoint.digest[:8]}/{protocol[:8]}"


def evaluation_stream(run: str, evaluation: str) -> str:
    """Name the stream that holds an evaluation."""
    return f"evaluation/{run}/{evaluation}"


def evaluation_of(run: Run, checkpoint: Checkpoint) -> Evaluation | None:
    """Return the evaluation of the checkpoint's present weights, if there was an attempt."""
    return run.evaluations.get(evaluation_id(checkpoint, run.protocol))


Key = tuple[str, str]
"""A checkpoint's name and the digest of its weights."""


def observe(run: Run, sightings: Sequence[Sighting], held: Container[Key] = ()) -> list[e.Event]:
    """Return what a look at the output directory adds to the log; nothing when nothing changed.

    What is `held` can be evaluated though its folder is gone.
    """
    new: list[e.Event] = []
    for seen in sightings:
        known = run.checkpoints.get(seen.name)
        place = (seen.step, seen.name, str(seen.path))
        match seen.verdict:
            case Whole(weights, digest):
                kind, component, files = weights.kind, weights.component, weights.files
                same = known is not None and known.state == "whole" and known.files == files
                if known is None or not same or known.digest != digest:
                    new.append(e.CheckpointCompleted(*place, kind, component, files, digest))
            case Partial(reason):
                told = known is not None and known.state == "partial"
                if known is None or not told or _stem(known.reason) != _stem(reason):
                    new.append(e.CheckpointFound(*place, reason))
            case Unusable(kind, reason):
                if known is None or known.state != "discarded" or known.reason != reason:
                    new.append(e.CheckpointDiscarded(*place, kind, reason))
    present = {seen.name for seen in sightings}
    for known in run.checkpoints.values():
        gone = known.name not in present and (known.name, known.digest) not in held
        gone = gone and known.kind != BASE  # which lies elsewhere
        if gone and _unfinished(run, known):
            done = (run.evaluations[it] for it in run.scored.get(run.protocol, ()))
            scored = any(it.checkpoint == known.name for it in done)
            new.append(vanished(known, scored=scored))
    return new


def images(run: Run) -> int:
    """Return how many images were scored, under every protocol."""
    return sum(it.clip.n if it.clip else len(it.done) for it in run.evaluations.values())


def newest_written(run: Run) -> float:
    """Return when the newest weights were written (mtime, in seconds); 0.0 for none."""
    stamps = (file.mtime_ns for c in run.checkpoints.values() for file in c.files)
    return max(stamps, default=0) / 1e9


def wholes(run: Run) -> dict[str, Whole]:
    """Return by name the checkpoints that were whole when they were last seen."""
    return {
        c.name: Whole(Weights(c.kind, c.component, c.files), c.digest)
        for c in run.checkpoints.values()
        if c.state == "whole" and c.kind != BASE
    }


def vanished(checkpoint: Checkpoint, *, scored: bool = False) -> e.CheckpointDiscarded:
    """Return the record of a checkpoint that was deleted; a scored one may be seen half deleted."""
    reason = "it was deleted, after it was scored"
    if not scored:
        reason = (
            "it was deleted before it was evaluated: keep more checkpoints, sample less, or, if it "
            "never settled, lower settle_seconds"
        )
    place = (checkpoint.step, checkpoint.name, checkpoint.path)
    return e.CheckpointDiscarded(*place, "vanished", reason)


def _stem(reason: str) -> str:
    """A reason without its numbers, so that a growing file is told once."""
    return "".join(character for character in reason if not character.isdigit())


def _unfinished(run: Run, checkpoint: Checkpoint) -> bool:
    if checkpoint.state != "whole":
        return checkpoint.state == "partial"
    evaluation = evaluation_of(run, checkpoint)
    return evaluation is None or (evaluation.state != "scored" and not given_up(evaluation))


def given_up(evaluation: Evaluation) -> bool:
    """Whether it failed for good."""
    return evaluation.state == "failed" and evaluation.retry_at is None


def queue(run: Run) -> list[Checkpoint]:
    """Return the checkpoints still to be evaluated, newest step first.

    The base model comes before all: every checkpoint is compared with it.
    """
    open_ = [
        checkpoint
        for checkpoint in run.checkpoints.values()
        if checkpoint.state == "whole" and _unfinished(run, checkpoint)
    ]
    return sorted(open_, key=lambda c: (c.kind != BASE, -c.step, c.name))


def due(run: Run, now: datetime) -> list[Checkpoint]:
    """Return the checkpoints to evaluate now; those that wait for another attempt are left out."""
    if not run.protocol:  # the models are not here yet
        return []
    found = []
    for checkpoint in queue(run):
        evaluation = evaluation_of(run, checkpoint)
        if evaluation is None or _is_due(evaluation.retry_at, now):
            found.append(checkpoint)
    return found


def _is_due(at: datetime | None, now: datetime) -> bool:
    """A time further off than any pause means that the clock was set back since."""
    longest = timedelta(seconds=max(RETRY_SECONDS) * (1 + SPREAD))
    return at is None or not now < at <= now + longest


def unpublished(run: Run, tracker: str) -> tuple[str, ...]:
    """Return the scored evaluations that a tracker is not known to show, in order of their seq."""
    shown = run.trackers.get(tracker, TrackerState()).published
    return tuple(id_ for id_ in run.scored.get(run.protocol, ()) if id_ not in shown)


def may_publish(run: Run, tracker: str, now: datetime) -> bool:
    """Whether a tracker is neither parked nor waiting for its next attempt."""
    return _may(run.trackers.get(tracker, TrackerState()), now)


def unsent(run: Run, channel: str, now: datetime | None) -> tuple[e.AdviceGiven, ...]:
    """Return the advice that a channel is to be told now; without a time, that it lacks at all."""
    known = run.channels.get(channel, TrackerState())
    new = (it for it in run.advice if advice_id(it) not in known.published)
    return tuple(new) if now is None or _may(known, now) else ()


def advice_id(advice: e.AdviceGiven) -> str:
    """Name an advice: it is given once."""
    return "/".join(filter(None, (advice.evaluation, advice.kind, advice.scorer)))


def _may(known: TrackerState, now: datetime) -> bool:
    return not known.parked and _is_due(known.retry_at, now)


LASTING = frozenset({"weights", "misfit", "scores", "vanished"})
"""Kinds of failure that another attempt at the same files cannot mend."""

CRAMPED = frozenset({"memory", "killed", "hung"})
"""Kinds of failure that a smaller batch may mend."""

PATIENT = frozenset({"disk", "device"})
"""Kinds of failure that are no fault of the checkpoint and are never given up."""


def retry_at(
    kind: str, attempt: int, now: datetime, *, attempts: int, batch_size: int, luck: float
) -> datetime | None:
    """Return when to evaluate again after the `attempt`-th failure in a row, None for never.

    Where memory may have been short it goes on at once, with half the batch, while `batch_size`
    (of the attempt that failed) can be halved; after that `attempts` bounds it.
    """
    if kind in CRAMPED and batch_size > 1:
        return now
    if kind in LASTING or (attempt >= attempts and kind not in PATIENT):
        return None
    return now + pause(attempt, luck)


def batch_sizes(run: Run, evaluation: Evaluation | None, configured: int | None) -> tuple[int, int]:
    """Return the batch for the next attempt, and up to which size a better one may be looked for.

    Each failure that may be its size's halves a `configured` size (its limit is 0: nothing is
    looked for). One that clipwatch looks for (None) is 0 until it is found; its limit is quartered,
    as most of what lies below was not tried.
    """
    cramped = evaluation.cramped if evaluation else 0
    if configured is not None:
        return max(1, configured >> cramped), 0
    limit = max(1, LARGEST_BATCH >> 2 * cramped)
    return min(run.batch_sizes.get(run.protocol, 0), limit), limit


def with_protocol(
    run: Run, protocol: EvaluationProtocol, commits: Mapping[str, str]
) -> tuple[str, list[e.Event]]:
    """Return the digest under which a protocol's results stand in a run, and what defines it.

    The curve of a clipwatch that did not know the files' identity goes on if nothing differs that
    it knew, once, unless it scored a LoRA: it did that with dropout on.

    Args:
        run: As it is.
        protocol: With the identity of its files.
        commits: Of the models from the Hub, as in an evaluation's environment.
    """
    digest = protocol.digest
    if digest in run.protocols:
        return digest, []
    if digest in run.continued:
        return run.continued[digest], []
    unknown = replace(protocol, inputs=()).digest
    known = unknown in run.protocols and unknown not in run.continued.values()
    adapters = any(it.kind == "lora" for it in run.checkpoints.values())
    before = (it.environment for it in run.evaluations.values() if it.protocol == unknown)
    moved = any(it.get(key, commit) != commit for it in before for key, commit in commits.items())
    if known and not adapters and not moved:
        return unknown, [e.ProtocolContinued(unknown, digest, protocol)]
    return digest, [e.ProtocolDefined(digest, protocol)]


def with_base(run: Run, protocol: EvaluationProtocol, *, wanted: bool) -> list[e.Event]:
    """Return what makes the base model one of the checkpoints, or no more than it was scored."""
    place = (0, BASE_NAME, protocol.base_model)
    known = run.checkpoints.get(place[1])
    there = known is not None and known.state == "whole" and known.kind == BASE
    if not wanted:
        off = e.CheckpointDiscarded(*place, "abandoned", "baseline is off")
        return [off] if there and known and _unfinished(run, known) else []
    named = (protocol.base_model, protocol.base_revision, protocol.base_variant)
    digest = hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]
    same = there and known is not None and known.digest == digest
    return [] if same else [e.CheckpointCompleted(*place, BASE, "", (), digest)]


def reopenable(run: Run, now: datetime) -> list[Evaluation]:
    """Return what failed for reasons outside the checkpoint: a restart tries it again at once."""
    return [
        evaluation
        for evaluation in run.evaluations.values()
        if evaluation.state == "failed"
        and evaluation.kind not in LASTING
        and (evaluation.retry_at is None or evaluation.retry_at > now)
    ]


def retryable(run: Run, step: int) -> list[Evaluation]:
    """Return the failed evaluations of what lies at a step now, waiting or given up."""
    there = [c for c in run.checkpoints.values() if c.step == step and c.state == "whole"]
    evaluations = [evaluation_of(run, checkpoint) for checkpoint in there]
    return [found for found in evaluations if found is not None and found.state == "failed"]


def pause(attempt: int, luck: float) -> timedelta:
    """Return how long to wait after the `attempt`-th failure in a row; `luck` is in 0..1."""
    seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1]
    return timedelta(seconds=seconds * (1 + SPREAD * luck))


def series_name(run: Run) -> str:
    """Name the curve: "clipwatch" for a run's first protocol, so that others never mix into it."""
    first = run.protocol == next(iter(run.protocols), run.protocol)
    return "clipwatch" if first else f"clipwatch-{run.protocol[:8]}"
