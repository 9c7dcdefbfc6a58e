"""Which checkpoints are left out where they come faster than they are evaluated. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from clipwatch.domain.events import CheckpointDiscarded
from clipwatch.domain.kinds import WhenBehind
from clipwatch.domain.queue import queue
from clipwatch.domain.retention import dear_ones
from clipwatch.domain.state import Checkpoint, CheckpointKey, Run, evaluation_of, protocols_of

WAITING: Final = 4
"""At most so many wait where an even spread is kept, beside those that are never left out."""

_REASONS: Final = {
    "newest": "a newer one was complete before its turn",
    "spread": f"more than {WAITING} waited, and those around it were the closest",
}


def left_out(
    run: Run, when_behind: WhenBehind, in_hand: Container[CheckpointKey]
) -> list[CheckpointDiscarded]:
    """Return what is left out now, as newer checkpoints came.

    Never the base model, what stands at the highest step (the last one, and a trainer's final
    export), the best so far under any settings, what has an image, and what a person had back. And
    no files without steps: nobody knows which of them is new.

    Args:
        run: As the log has it.
        when_behind: What was asked for.
        in_hand: What is evaluated just now.
    """
    if when_behind == "wait" or run.unit == "file":
        return []
    waiting = queue(run)
    last = max((it.step for it in run.checkpoints.values() if it.state == "whole"), default=0)
    open_ = [it for it in waiting if not (it.is_base or it.step == last or it.asked)]
    if len(open_) <= (WAITING if when_behind == "spread" else 0):
        return []
    dear = {(it.checkpoint, it.digest) for it in map(run.evaluations.get, dear_ones(run)) if it}
    free = [
        it
        for it in open_
        if (it.name, it.digest) not in dear
        and (it.name, it.digest) not in in_hand
        and not _begun(run, it)
    ]
    if when_behind == "spread":
        scored = (run.evaluations[it] for one in run.present for it in run.scored.get(one, ()))
        steps = sorted([*{0, last, *(it.step for it in scored)}, *(it.step for it in waiting)])
        free = list(_closest(free, steps))
    why = f"{_REASONS[when_behind]} (when_behind {when_behind}); clipwatch retry STEP scores it"
    return [CheckpointDiscarded(it.step, it.name, it.path, "skipped", why, it.unit) for it in free]


def _begun(run: Run, checkpoint: Checkpoint) -> bool:
    """Whether it has an image, or its score at one of several strengths."""
    found = (evaluation_of(run, checkpoint, it) for it in protocols_of(run, checkpoint))
    return any(it is not None and (it.done or it.state == "scored") for it in found)


def _closest(free: Iterable[Checkpoint], steps: list[int]) -> Iterator[Checkpoint]:
    """Yield all but WAITING: each time the one that leaves the smallest gap, of equals the first.

    Args:
        free: Those that may go.
        steps: Of all that stand on the curve, or are to, in their order; the last is none that may
            go.
    """
    gaps = [(_gap(steps, it.step), it.step, it.name, it) for it in free]
    heapify(gaps)
    while len(gaps) > WAITING:
        told, step, name, it = heappop(gaps)
        if told < (gap := _gap(steps, step)):  # one beside it went
            heappush(gaps, (gap, step, name, it))
            continue
        steps.pop(bisect_left(steps, step))
        yield it


def _gap(steps: list[int], step: int) -> int:
    """Return what would lie between those around a step; 0 where another one has the same."""
    at = bisect_left(steps, step)
    return steps[at + 1] - steps[max(at - 1, 0)] if steps[at + 1] > step else 0
