"""What trackers and channels are owed: each series at each destination, until it is there.

A series is what a run scored under one protocol. A changed destination is another one: all is owed
there. Who is no longer named in the settings is owed nothing, hence is not asked for here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from clipwatch.domain.events import AdviceGiven, DestinationChanged
from clipwatch.domain.kinds import ReceiverKind
from clipwatch.domain.retries import is_due
from clipwatch.domain.state import Received, Run

Owed = dict[str, tuple[str, ...]]
"""Protocol → what of its series is owed, in order; the present ones first, none empty."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A tracker or a channel, and all that decides where there something goes; no secret in it."""

    kind: ReceiverKind
    name: str
    place: str


def received(run: Run, kind: ReceiverKind, name: str) -> Received:
    """Return what is known of a tracker or channel."""
    return (run.trackers if kind == "tracker" else run.channels).get(name, Received())


def owed(run: Run, kind: ReceiverKind, name: str) -> Owed:
    """Return what a receiver's present destination is not known to have.

    Of a tracker these are evaluations, in order of their seq; of a channel advice_id()s, and
    scored_id()s where the settings want a message of every checkpoint.
    """
    has = received(run, kind, name).has
    series = run.scored if kind == "tracker" else _told(run)
    lacking = {
        protocol: tuple(id_ for id_ in series[protocol] if id_ not in has)
        for protocol in sorted(series, key=lambda it: it not in run.present)
    }
    return {protocol: ids for protocol, ids in lacking.items() if ids}


def more_shown(run: Run, tracker: str) -> dict[str, tuple[str, ...]]:
    """Return by protocol what a tracker shows of this run's curves that the log still lacks."""
    more = received(run, "tracker", tracker).more
    lacking = {
        protocol: tuple(it for it in ids if it not in run.scored.get(protocol, ()))
        for protocol, ids in more.items()
    }
    return {protocol: ids for protocol, ids in lacking.items() if ids}


def may_try(run: Run, kind: ReceiverKind, name: str, protocol: str, now: datetime) -> bool:
    """Whether a series is neither parked nor waiting for its next attempt."""
    trial = received(run, kind, name).trial(protocol)
    return not trial.parked and is_due(trial.retry_at, now)


def parked(run: Run, tracker: str) -> bool:
    """Whether a tracker is owed something, and all of that waits for somebody."""
    known, lacking = received(run, "tracker", tracker), owed(run, "tracker", tracker)
    return bool(lacking) and all(known.trial(protocol).parked for protocol in lacking)


def addressed(run: Run, destination: Destination) -> list[DestinationChanged]:
    """Return what is to be written down when everything goes to a destination from here on."""
    kind, name, place = destination.kind, destination.name, destination.place
    same = received(run, kind, name).destination == place
    return [] if same else [DestinationChanged(kind, name, place)]


def advice_id(advice: AdviceGiven) -> str:
    """Name an advice: it is given once."""
    return "/".join(filter(None, (advice.evaluation, advice.kind, advice.scorer)))


def scored_id(evaluation: str) -> str:
    """Name the message that an evaluation is scored."""
    return f"{evaluation}/scored"


def _told(run: Run) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for it in run.advice:
        protocol = run.evaluations[it.evaluation].protocol
        found.setdefault(protocol, []).append(advice_id(it))
    if run.settings.get("notify_every_checkpoint") == "true":
        for protocol, ids in run.scored.items():
            found.setdefault(protocol, []).extend(map(scored_id, ids))
    return found
