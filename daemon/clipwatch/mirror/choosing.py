"""Which checkpoint at an address is copied next, and which copies are of no use any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from clipwatch.domain.queue import DELETED_BEFORE
from clipwatch.domain.sighting import Partial, Unusable
from clipwatch.domain.state import Run
from clipwatch.mirror.entries import Entry

_NOT_COPIED: Final = "it cannot be copied: "
_MAY_PASS: Final = (DELETED_BEFORE, _NOT_COPIED)


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


@dataclass(frozen=True, slots=True)
class Done:
    """Since when (Unix time) nothing is left to do for a checkpoint; `whole`: it could be used."""

    since: float
    whole: bool


def done(run: Run, judged: Mapping[str, float] = MappingProxyType({})) -> dict[str, Done]:
    """Return by name the checkpoints for which nothing is left to do: scored, given up, left out.

    Not what was left out only because it was gone, or could not be copied.

    Args:
        run: As the log has it.
        judged: Name → when its copy was looked at last (Unix time): it may have been no news.
    """
    return {
        name: Done(
            max(it.since.timestamp() if it.since else 0.0, judged.get(name, 0.0)),
            it.state == "whole",
        )
        for name, it in run.checkpoints.items()
        if not (name in run.unfinished or it.is_base or it.reason.startswith(_MAY_PASS))
    }


def over(had: Mapping[str, Had], finished: Mapping[str, Done]) -> tuple[str, ...]:
    """Return the names of copies that are of no use any more: what was told, was told of them."""
    return tuple(name for name, it in had.items() if it.paths and _is_told(name, it, finished))


def _is_told(name: str, had: Had, finished: Mapping[str, Done]) -> bool:
    return name in finished and finished[name].since >= had.at


def plan(
    entries: Sequence[Entry],
    still: Collection[str],
    had: Mapping[str, Had],
    finished: Mapping[str, Done],
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


def _wanted(entry: Entry, had: Had | None, finished: Mapping[str, Done]) -> bool:
    """Whether a checkpoint is to be copied; a list that was lost is made up for by the log."""
    if had is None:
        return not (entry.name in finished and finished[entry.name].whole)
    if not had.paths and had.signed == entry.signature:
        return not _is_told(entry.name, had, finished)
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
            told[it.name] = Unusable("unreadable", f"{_NOT_COPIED}{reason}")
    return {name: verdict for name, verdict in told.items() if name not in here}
