"""When what failed is tried again, and with how large a batch."""

from __future__ import annotations

from datetime import datetime, timedelta

from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.state import Evaluation, Run

RETRY_SECONDS = (30.0, 120.0, 600.0, 1800.0)
"""Pauses after the first, second, ... failure in a row; the last one repeats."""

LARGEST_BATCH = 64
"""Images generated at once when clipwatch looks for the best number itself."""

SPREAD = 0.25
"""By how much of itself a pause may be longer, so that many daemons do not return all at once."""


def is_due(at: datetime | None, now: datetime) -> bool:
    """A time further off than any pause means that the clock was set back since."""
    longest = timedelta(seconds=max(RETRY_SECONDS) * (1 + SPREAD))
    return at is None or not now < at <= now + longest


LASTING: frozenset[FailureKind] = frozenset({"weights", "misfit", "scores"})
"""Kinds of failure that another attempt at the same files cannot mend."""

OF_CHECKPOINT: frozenset[FailureKind] = LASTING | {"vanished", "changed", "unreadable", "stage"}
"""Kinds of failure that another slot would meet as well."""

CRAMPED: frozenset[FailureKind] = frozenset({"memory", "killed", "hung"})
"""Kinds of failure that a smaller batch may mend."""

PATIENT: frozenset[FailureKind] = frozenset({"disk", "device"})
"""Kinds of failure that are no fault of the checkpoint and are never given up."""


def retry_at(
    kind: FailureKind, attempt: int, now: datetime, *, attempts: int, batch_size: int, luck: float
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
    found = (run.batch_sizes[it] for it in run.present if it in run.batch_sizes)
    return min(next(found, 0), limit), limit


def pause(attempt: int, luck: float) -> timedelta:
    """Return how long to wait after the `attempt`-th failure in a row; `luck` is in 0..1."""
    seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1]
    return timedelta(seconds=seconds * (1 + SPREAD * luck))
