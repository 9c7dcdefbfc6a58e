"""Which checkpoint at an address is copied next, and which copies are of no use any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clipwatch.domain.queue import DELETED_BEFORE
from clipwatch.domain.sighting import Partial, Unusable
from clipwatch.domain.state import Run
from clipwatch.mirror.entries import Entry


@dataclass(frozen=True, slots=True)
class Had:
    """What was copied of a checkpoint: as it was `signed` there, and when (Unix time).

    `paths` are its files, none once they are deleted.
    """

    signed: str
    at: float
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done after a look.

    Attributes:
        waiting: What is to be copied, in that order.
        next: What of it can be now, if anything.
    """

    waiting: tuple[Entry, ...]
    next: Entry | None


def done(run: Run) -> dict[str, float]:
    """Return checkpoint → since when (Unix time) nothing is left to do for it.

    What is scored, given up or left out is not needed, until its weights are others; what was
    deleted is, if it is there again.
    """
    return {
        name: it.since.timestamp() if it.since else 0.0
        for name, it in run.checkpoints.items()
        if not (name in run.unfinished or it.is_base or it.reason.startswith(DELETED_BEFORE))
    }


def over(had: Mapping[str, Had], finished: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names of copies that are of no use any more: what was told, was told of them."""
    return tuple(name for name, it in had.items() if it.paths and finished.get(name, 0.0) >= it.at)


def plan(
    entries: Sequence[Entry],
    still: Collection[str],
    had: Mapping[str, Had],
    finished: Mapping[str, float],
    limit: int,
) -> Plan:
    """Say what is to be done.

    Args:
        entries: What lies there, newest first.
        still: Names of those that two looks in succession found the same.
        had: Name → what was copied of it, last.
        finished: As `done` returns it.
        limit: Copies at once.
    """
    here = {name for name, it in had.items() if it.paths}
    waiting = [it for it in entries if _wanted(it, had.get(it.name), finished)]
    ready = (it for it in waiting if it.name in still and (it.name in here or len(here) < limit))
    return Plan(tuple(waiting), next(ready, None))


def _wanted(entry: Entry, had: Had | None, finished: Mapping[str, float]) -> bool:
    """Whether a checkpoint is to be copied; a list that was lost is made up for by the log."""
    if had is None or (not had.paths and had.signed == entry.signature):
        return entry.name not in finished
    less = {it.path for it in entry.files} < set(had.paths) - set(entry.marks)
    return had.signed != entry.signature and not less  # it is being deleted there


def to_copy(address: str) -> Partial:
    """Return what is said of what lies there alone."""
    return Partial(f"it is still to be copied from {address}")


def away(
    found: Sequence[Entry],
    waiting: Sequence[Entry],
    here: Collection[str],
    address: str,
    failed: Mapping[str, str],
) -> dict[str, Partial | Unusable | None]:
    """Return what is to be said of checkpoints of which there is no copy; None for nothing.

    Args:
        found: All that lies there.
        waiting: What of it is to be copied.
        here: Names of the copies.
        address: Where it lies.
        failed: Name → why it cannot be copied.
    """
    told: dict[str, Partial | Unusable | None] = {it.name: None for it in found}
    for it in waiting:
        told[it.name] = to_copy(address)
        if reason := failed.get(it.name):
            told[it.name] = Unusable("unreadable", reason)
    return {name: verdict for name, verdict in told.items() if name not in here}
