"""Which checkpoints are still to be evaluated, and what a look at the output directory adds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby, islice

from clipwatch.domain.events import CheckpointCompleted, CheckpointDiscarded, CheckpointFound, Event
from clipwatch.domain.kinds import Unit
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.retries import LASTING, is_due
from clipwatch.domain.sighting import SAME, Partial, Sighting, Unusable, Whole
from clipwatch.domain.state import (
    BASE_NAME,
    Checkpoint,
    CheckpointKey,
    Evaluation,
    Run,
    evaluation_id,
    evaluation_of,
    open_protocols,
    protocols_of,
)


@dataclass(frozen=True, slots=True)
class Pending:
    """A checkpoint that is to be evaluated under a protocol; `id` is the evaluation's."""

    checkpoint: Checkpoint
    protocol: str
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", evaluation_id(self.checkpoint, self.protocol))


def observe(
    run: Run,
    sightings: Sequence[Sighting],
    held: Container[CheckpointKey] = (),
    only: Container[str] = (),
) -> list[Event]:
    """Return what a look at the output directory adds to the log; nothing when nothing changed.

    What is `held` can be evaluated though its folder is gone, or what belongs to it was written
    over; where `only` some names were looked for, none of the others has to wait. A run counts in
    one unit: that of the checkpoint that was the first to be whole. Of what was left out, as newer
    ones came, nothing is news but other weights in its place.
    """
    new: list[Event] = []
    whole = next((seen.unit for seen in sightings if isinstance(seen.verdict, Whole)), run.unit)
    unit = run.unit if run.counts else whole
    for seen in (_counted(it, unit) for it in _placed(run, sightings)):
        known = run.checkpoints.get(seen.name)
        place = (seen.step, seen.name, str(seen.path))
        match seen.verdict:
            case verdict if known is not None and _stays_out(known, verdict):
                pass
            case Whole(weights, digest):
                kind, component, files = weights.kind, weights.component, weights.files
                same = known is not None and known.state == "whole" and known.files == files
                if known is None or not same or known.digest != digest:
                    made = CheckpointCompleted(*place, kind, component, files, digest, seen.unit)
                    new.append(made)
            case Partial(reason):
                told = known is not None and known.state == "partial"
                if known is None or not told or _stem(known.reason) != _stem(reason):
                    new.append(CheckpointFound(*place, reason, seen.unit))
            case Unusable("unsupported", _) if known is not None and _had(run, known, held):
                pass
            case Unusable(kind, reason):
                if known is None or known.state != "discarded" or known.reason != reason:
                    new.append(CheckpointDiscarded(*place, kind, reason, seen.unit))
    present = {seen.name for seen in sightings}
    for known in _unfinished(run):
        gone = known.name not in present and (known.name, known.digest) not in held
        if gone and not known.is_base:  # which lies elsewhere
            if only and known.name not in only:
                new.append(_unnamed(known))
                continue
            new.append(vanished(known, scored=_scored(run, known)))
    return new


def _placed(run: Run, sightings: Sequence[Sighting]) -> list[Sighting]:
    """Return the sightings, of which files keep the place that they had; the others follow."""
    if not any(it.unit == "file" for it in sightings):
        return list(sightings)
    known = {name: it.step for name, it in run.checkpoints.items() if it.unit == "file"}
    places = dict(known)
    for seen in sorted(sightings, key=lambda it: it.step):
        taken = places.values()
        if seen.unit == "file" and seen.name not in places:
            free = seen.step if seen.step not in taken else max(taken) + 1
            places[seen.name] = free
    return [replace(it, step=places.get(it.name, it.step)) for it in sightings]


def _counted(seen: Sighting, unit: Unit) -> Sighting:
    """A sighting as it counts in a run of this unit; what is not whole may still tell another."""
    if seen.unit == unit or not isinstance(seen.verdict, Whole):
        return seen
    told = f"it counts {seen.unit}s, where the run counts {unit}s: one curve cannot show both"
    return replace(seen, verdict=Unusable("unsupported", told))


def _had(run: Run, known: Checkpoint, held: Container[CheckpointKey]) -> bool:
    """Whether what was whole has its scores, or can still get them from what we hold of it."""
    found = [evaluation_of(run, known, it) for it in protocols_of(run, known) if it]
    scored = bool(found) and all(it is not None and it.state == "scored" for it in found)
    return known.state == "whole" and (scored or (known.name, known.digest) in held)


def _stays_out(known: Checkpoint, seen: Whole | Partial | Unusable) -> bool:
    """Whether it was left out for what has not changed since.

    As newer ones came, until other weights lie there; or as another one's weights, until it is
    written: that one may be gone by now, but its score stands.
    """
    if known.skipped:
        return not (isinstance(seen, Whole) and seen.digest != known.digest)
    same = known.state == "discarded" and known.reason.startswith(SAME)
    if not same or known.since is None or not isinstance(seen, Whole):
        return False
    return all(file.mtime_ns <= known.since.timestamp() * 1e9 for file in seen.weights.files)


def newest_written(run: Run) -> float:
    """Return when the newest weights were written (mtime, in seconds); 0.0 for none."""
    stamps = (file.mtime_ns for c in run.checkpoints.values() for file in c.files)
    return max(stamps, default=0) / 1e9


def wholes(run: Run) -> dict[str, Whole]:
    """Return by name the checkpoints that were whole when they were last seen."""
    return {
        c.name: Whole(c.weights, c.digest)
        for c in run.checkpoints.values()
        if (c.state == "whole" or c.skipped) and not c.is_base
    }


DELETED = "it was deleted"
"""How the reasons begin for checkpoints that are gone."""

DELETED_BEFORE = f"{DELETED} before it was evaluated"
"""The same of those that have no score: they are welcome when they come back."""

_DELETED_SCORED = f"{DELETED}, after it was scored"


def vanished(checkpoint: Checkpoint, *, scored: bool = False) -> CheckpointDiscarded:
    """Return the record of a checkpoint that was deleted; a scored one may be seen half deleted."""
    reason = _DELETED_SCORED
    if not scored:
        reason = (
            f"{DELETED_BEFORE}: keep more checkpoints, sample less, or, if it never settled, "
            "lower settle_seconds"
        )
    place = (checkpoint.step, checkpoint.name, checkpoint.path)
    return CheckpointDiscarded(*place, "vanished", reason, checkpoint.unit)


def _unnamed(checkpoint: Checkpoint) -> CheckpointDiscarded:
    place = (checkpoint.step, checkpoint.name, checkpoint.path)
    return CheckpointDiscarded(*place, "abandoned", "others are named", checkpoint.unit)


def _stem(reason: str) -> str:
    """A reason without its numbers, so that a growing file is told once."""
    return "".join(character for character in reason if not character.isdigit())


def _unfinished(run: Run) -> list[Checkpoint]:
    """Return the checkpoints that are not whole, or not evaluated, in the order of their steps."""
    found = (run.checkpoints[name] for name in run.unfinished)
    return sorted(found, key=lambda it: (it.step, it.name))


def _scored(run: Run, checkpoint: Checkpoint) -> bool:
    """Whether all that was wanted of it is scored, if of other weights; half deleted it may be."""
    return all(
        any(
            run.evaluations[it].checkpoint == checkpoint.name for it in run.scored.get(protocol, ())
        )
        for protocol in protocols_of(run, checkpoint)
    )


def partial(run: Run) -> list[Checkpoint]:
    """Return the checkpoints that are not whole yet, in the order of their steps."""
    return [it for it in _unfinished(run) if it.state == "partial"]


def queue(run: Run) -> list[Checkpoint]:
    """Return the checkpoints still to be evaluated, newest step first.

    The base model comes before all: every checkpoint is compared with it.
    """
    open_ = (it for it in _unfinished(run) if it.state == "whole")
    return sorted(open_, key=lambda c: (not c.is_base, -c.step, c.name))


def pending(run: Run) -> list[Pending]:
    """Return all that is still to be evaluated, in the order of the queue, each at all strengths.

    While the protocol is unknown, whatever is whole is.
    """
    return [Pending(it, protocol) for it in queue(run) for protocol in open_protocols(run, it)]


def due(run: Run, now: datetime, waiting: Sequence[Pending] | None = None) -> list[Pending]:
    """Return what to evaluate now; what waits for another attempt is left out.

    Args:
        run: As the log has it.
        now: In UTC.
        waiting: Its `pending`, for who has that; it takes most of the work.
    """
    if not run.protocol:  # the models are not here yet
        return []
    found = []
    for it in pending(run) if waiting is None else waiting:
        evaluation = run.evaluations.get(it.id)
        if evaluation is None or is_due(evaluation.retry_at, now):
            found.append(it)
    return found


def to_keep(
    run: Run,
    in_hand: Sequence[Checkpoint],
    due: Sequence[Pending],
    kept: Collection[CheckpointKey],
    limit: int,
) -> list[Checkpoint]:
    """Return what is to be kept from rotation, the most urgent first, `limit` at most.

    Args:
        run: With what is queued.
        in_hand: What is evaluated just now.
        due: What comes next, in that order.
        kept: What is kept already; if it only waits for another attempt it is not let go.
        limit: Of the settings.
    """
    waiting = [c for c in queue(run) if (c.name, c.digest) in kept] if kept else []
    next_ = (it for it, _ in groupby(it.checkpoint for it in due))  # strengths stand side by side
    wanted = dict.fromkeys((*in_hand, *islice(next_, limit), *waiting))
    return [c for c in wanted if not c.is_base][:limit]


def with_base(run: Run, protocol: EvaluationProtocol, *, wanted: bool) -> list[Event]:
    """Return what makes the base model one of the checkpoints, or no more than it was scored."""
    place = (0, BASE_NAME, protocol.base_model)
    known = run.checkpoints.get(place[1])
    there = known is not None and known.state == "whole"
    if not wanted:
        off = CheckpointDiscarded(*place, "abandoned", "baseline is off")
        return [off] if there and known and known.name in run.unfinished else []
    named = (protocol.base_model, protocol.base_revision, protocol.base_variant)
    digest = hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]
    same = there and known is not None and known.digest == digest
    return [] if same else [CheckpointCompleted(*place, "base", "", (), digest)]


def reopenable(
    run: Run, now: datetime, only: Container[str] = (), *, raced: bool = False
) -> list[Evaluation]:
    """Return what failed for reasons outside the checkpoint: a restart tries it again at once.

    Not what vanished and did not come back: there are many of these in a long training. Nor what
    was left out. What was outdone goes on, of some that are named `only` these, but where it is
    `raced`: there that is worked out anew.
    """
    here = {(c.name, c.digest) for c in run.checkpoints.values() if c.state == "whole"}
    skipped = {(c.name, c.digest) for c in run.checkpoints.values() if c.skipped}
    found = run.evaluations.values()
    outdone = [it for it in found if it.state == "outdone" and (it.checkpoint, it.digest) in here]
    outdone = [it for it in outdone if not only or it.checkpoint in only]
    failed = [
        evaluation
        for evaluation in found
        if evaluation.state == "failed"
        and evaluation.kind not in LASTING
        and (evaluation.kind != "vanished" or (evaluation.checkpoint, evaluation.digest) in here)
        and (evaluation.checkpoint, evaluation.digest) not in skipped
        and (evaluation.retry_at is None or evaluation.retry_at > now)
    ]
    return failed if raced else [*failed, *outdone]


def retryable(run: Run, step: int) -> list[Evaluation]:
    """Return the failed evaluations of what lies at a step now, waiting or given up."""
    there = [c for c in run.checkpoints.values() if c.step == step and c.state == "whole"]
    evaluations = [evaluation_of(run, c, it) for c in there for it in protocols_of(run, c)]
    return [found for found in evaluations if found is not None and found.state == "failed"]


def had_back(run: Run, step: int) -> list[CheckpointCompleted]:
    """Return what puts those of a step into the queue that were left out, as newer ones came."""
    return [
        CheckpointCompleted(
            step, it.name, it.path, it.kind, it.component, it.files, it.digest, it.unit
        )
        for it in run.checkpoints.values()
        if it.step == step and it.skipped and it.kind
    ]
