"""What trackers and channels have, and what they are owed."""

from __future__ import annotations

from datetime import datetime

from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.retries import is_due
from clipwatch.domain.state import Run, TrackerState


def unpublished(run: Run, tracker: str) -> tuple[str, ...]:
    """Return the scored evaluations that a tracker is not known to show, in order of their seq."""
    shown = run.trackers.get(tracker, TrackerState()).published
    return tuple(id_ for id_ in run.scored.get(run.protocol, ()) if id_ not in shown)


def may_publish(run: Run, tracker: str, now: datetime) -> bool:
    """Whether a tracker is neither parked nor waiting for its next attempt."""
    return _may(run.trackers.get(tracker, TrackerState()), now)


def unsent(run: Run, channel: str, now: datetime | None) -> tuple[AdviceGiven, ...]:
    """Return the advice that a channel is to be told now; without a time, that it lacks at all."""
    known = run.channels.get(channel, TrackerState())
    new = (it for it in run.advice if advice_id(it) not in known.published)
    return tuple(new) if now is None or _may(known, now) else ()


def advice_id(advice: AdviceGiven) -> str:
    """Name an advice: it is given once."""
    return "/".join(filter(None, (advice.evaluation, advice.kind, advice.scorer)))


def _may(known: TrackerState, now: datetime) -> bool:
    return not known.parked and is_due(known.retry_at, now)
