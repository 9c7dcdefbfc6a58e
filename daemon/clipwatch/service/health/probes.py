"""What the loop last said of itself, and what that means for who asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from clipwatch.domain.state import Run
from clipwatch.service.heartbeat import STALE_SECONDS

Phase = Literal["idle", "starting", "watching", "draining", "stopping"]
"""What it does just now; "idle" is a daemon that has no run yet."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """One turn of the loop.

    Attributes:
        run: As the log has it, None before it began.
        seq: The last event's number in the log.
        phase: What it does just now.
        at: When, by the clock that nobody sets.
        waiting: Why the log cannot be had just now, "" when it can.
    """

    run: Run | None = None
    seq: int = 0
    phase: Phase = "starting"
    at: float = field(default_factory=time.monotonic)
    waiting: str = ""


def not_alive(loop: LoopState, now: float) -> str:
    """Return why the daemon should be started anew, "" while its loop goes round."""
    still = now - loop.at
    return f"the loop has stood still for {still:.0f} s" if still > STALE_SECONDS else ""


def not_ready(loop: LoopState, now: float) -> str:
    """Return why it does not do its work just now, "" when it does."""
    if problem := not_alive(loop, now):
        return problem
    if loop.phase == "idle":
        return ""
    if loop.phase != "watching" or loop.waiting:
        return loop.waiting or loop.phase
    return loop.run.problem if loop.run else "starting"


def worst(
    loops: Sequence[LoopState], now: float, problem: Callable[[LoopState, float], str]
) -> str:
    """Return why one of the runs is not well, and of how many; "" when all are.

    Args:
        loops: Of each run.
        now: By the loop's clock.
        problem: `not_alive` or `not_ready`.
    """
    found = [(loop, why) for loop in loops if (why := problem(loop, now))]
    if not found or len(loops) == 1:
        return found[0][1] if found else ""
    loop, why = found[0]
    name = f"{loop.run.name}: " if loop.run else ""
    return f"{len(found)} of {len(loops)} runs: {name}{why}"
