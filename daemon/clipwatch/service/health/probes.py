"""What the loop last said of itself, and what that means for who asks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from clipwatch.domain.state import Run
from clipwatch.service.heartbeat import STALE_SECONDS

Phase = Literal["starting", "watching", "draining", "stopping"]


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
    if loop.phase != "watching" or loop.waiting:
        return loop.waiting or loop.phase
    return loop.run.problem if loop.run else "starting"
