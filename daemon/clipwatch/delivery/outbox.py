"""Brings a series to a destination: to a tracker, or to a channel of advice."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from clipwatch.delivery.channels import channels
from clipwatch.delivery.trackers import Surveying, Target, Tracker
from clipwatch.domain.curves import series_name
from clipwatch.domain.delivered import Destination, more_shown, received
from clipwatch.domain.events import (
    AdviceNotSent,
    AdviceSent,
    NoLongerShown,
    Published,
    PublishFailed,
)
from clipwatch.domain.imported import MoreShown
from clipwatch.domain.kinds import ReceiverKind
from clipwatch.domain.retries import pause
from clipwatch.domain.state import Received, Run
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.settings import Settings

Outcome = Published | NoLongerShown | MoreShown | PublishFailed | AdviceSent | AdviceNotSent

MOVES = 3
"""How often a series is brought in one attempt when its destination changes meanwhile."""


class Receiver(Protocol):
    """Who takes a series: a channels.Channel, or a Publishing for a tracker."""

    @property
    def lost(self) -> AbstractSet[str]:
        """Of what the log knows to be there, what was found to be there no more."""

    @property
    def more(self) -> Sequence[str] | None:
        """What was found to be there that the log lacks; None where nobody can tell."""

    def destination(self) -> str:
        """Tell all that decides where it goes, see Tracker.destination."""

    def bring(self, series: Series, had: AbstractSet[str]) -> Iterator[str]:
        """Bring what is lacking, and yield the name of each thing once it is surely there.

        `had` is what the log knows to be there.
        """

    def where(self, series: Series) -> str:
        """Return where a person finds what was brought, "" for nowhere."""


class Publishing:
    """A tracker as a receiver: what it has is what can be read back from it.

    Args:
        tracker: The adapter.
        only: The `seq` that are to be brought, None for all.
    """

    def __init__(self, tracker: Tracker, only: Container[int] | None = None) -> None:
        self.destination = tracker.destination
        self.where = tracker.where
        self._tracker = tracker
        self._only = only
        self._lost: AbstractSet[str] = frozenset()
        self.more: Sequence[str] | None = None

    @property
    def lost(self) -> AbstractSet[str]:
        """See Receiver."""
        return self._lost

    def bring(self, series: Series, had: AbstractSet[str]) -> Iterator[str]:
        """Yield all evaluations of the series that are there in the end, or none.

        Raises:
            TrackerUnavailable: Also when it shows less than it was given.
            TrackerRefused: It will take nothing until somebody mends something.
        """
        shown = self._tracker.published(series)
        if isinstance(self._tracker, Surveying):
            self.more = self._tracker.more(series)
        wanted = [it for it in series.results if self._only is None or it.seq in self._only]
        missing = [result for result in wanted if result.seq not in shown]
        self._lost = had & {result.evaluation for result in missing}
        if missing:
            self._tracker.publish(series, [result.seq for result in missing])
            shown = self._tracker.published(series)
        if lacking := sum(result.seq not in shown for result in wanted):
            raise TrackerUnavailable(f"{lacking} results were sent but are not shown")
        yield from (result.evaluation for result in series.results if result.seq in shown)


@dataclass(frozen=True, slots=True)
class Outbox:
    """What a run has for others, and how it gets there.

    Attributes:
        run: As it is.
        settings: Who is to get it.
        make: Makes an adapter.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
    """

    run: Run
    settings: Settings
    make: Callable[[str, Target], Tracker]
    clock: Callable[[], datetime]
    luck: Callable[[], float]

    @property
    def receivers(self) -> list[tuple[ReceiverKind, str]]:
        """All that the settings name, trackers first."""
        named = self.settings.publishing.trackers
        trackers: list[tuple[ReceiverKind, str]] = [("tracker", name) for name in named]
        return [*trackers, *(("channel", name) for name in channels(self.settings.advice))]

    def tracker(self, name: str) -> Tracker:
        """Return an adapter that knows where it has published before."""
        return self.make(name, target(self.settings, self.run, name))

    def destination(self, kind: ReceiverKind, name: str) -> Destination:
        """Return where everything for a receiver goes now; no side effect.

        Raises:
            TrackerUnavailable, TrackerRefused: It cannot tell.
        """
        return Destination(kind, name, self._receiver(kind, name).destination())

    def deliver(
        self, destination: Destination, series: Series, only: Container[int] | None = None
    ) -> list[Outcome]:
        """Bring what a destination lacks of a series with results, and return what came of it.

        May take minutes. The events name the destination that has it now: another one, where it
        changed meanwhile.

        Args:
            destination: Whose.
            series: What there is.
            only: The `seq` that a tracker is to get, None for all.
        """
        kind, name = destination.kind, destination.name
        known = received(self.run, kind, name)
        brought = _bring(lambda: self._receiver(kind, name, only), series, known, destination.place)
        protocol = self.run.evaluations[series.results[0].evaluation].protocol
        ends = (brought.place, protocol)
        events: list[Outcome] = list(_taken(kind, name, brought, known, ends))
        before = more_shown(self.run, name).get(protocol, ()) if kind == "tracker" else ()
        if brought.more is not None and set(brought.more) != set(before):
            events.append(MoreShown(name, tuple(brought.more), *ends))
        if brought.problem:
            attempt = known.trial(protocol).attempt + 1
            pausing = None if brought.refused else self.clock() + pause(attempt, self.luck())
            failed = PublishFailed if kind == "tracker" else AdviceNotSent
            events.append(failed(name, brought.problem, attempt, pausing, *ends))
        return events

    def _receiver(
        self, kind: ReceiverKind, name: str, only: Container[int] | None = None
    ) -> Receiver:
        if kind == "tracker":
            return Publishing(self.tracker(name), only)
        return channels(self.settings.advice)[name]


@dataclass(frozen=True, slots=True)
class _Brought:
    """What came of an attempt: what is at a place now, and why that is not all."""

    place: str
    there: tuple[str, ...] = ()
    where: str = ""
    problem: str = ""
    refused: bool = False
    lost: AbstractSet[str] = frozenset()
    more: Sequence[str] | None = None


def _bring(make: Callable[[], Receiver], series: Series, known: Received, place: str) -> _Brought:
    there: list[str] = []
    lost: AbstractSet[str] = frozenset()
    try:
        receiver = make()
        for _ in range(MOVES):
            place = receiver.destination()
            there.clear()
            try:
                for id_ in receiver.bring(series, known.at(place)):
                    there.append(id_)  # noqa: PERF402 - those before an error stay there
            finally:
                lost = receiver.lost
            where = receiver.where(series)
            if receiver.destination() == place:
                return _Brought(place, tuple(there), where, lost=lost, more=receiver.more)
        return _Brought(place, problem="its destination does not stay the same")
    except (TrackerRefused, TrackerUnavailable) as error:
        refused = isinstance(error, TrackerRefused)
        return _Brought(place, tuple(there), problem=str(error), refused=refused, lost=lost)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a faulty adapter stops nobody else
        what = f"{type(error).__name__}: {error}"
        return _Brought(place, tuple(there), problem=what, lost=lost)


def _taken(
    kind: ReceiverKind, name: str, brought: _Brought, known: Received, ends: tuple[str, str]
) -> Iterator[Outcome]:
    """Yield what is to be written down of what is there now; nothing that is in the log."""
    place, protocol = ends
    had = known.at(place) - brought.lost
    fresh = [id_ for id_ in brought.there if id_ not in had]
    if kind == "channel":
        if fresh:
            yield AdviceSent(name, tuple(fresh), *ends)
        return
    if brought.lost and not fresh:
        yield NoLongerShown(name, tuple(sorted(brought.lost)), *ends)
    where = brought.where or known.places.get(protocol, "")
    over = known.trial(protocol).attempt > 0 and not brought.problem
    if fresh or over or where != known.places.get(protocol, ""):
        before = frozenset().union(*known.had.values())
        new = tuple(id_ for id_ in fresh if id_ not in before)
        again = tuple(id_ for id_ in fresh if id_ in before)
        yield Published(name, new, where, *ends, again)


def target(settings: Settings, run: Run, name: str) -> Target:
    """Return where a run's tracker is to publish."""
    known = received(run, "tracker", name)
    return Target(
        output_dir=settings.paths.output_dir,
        first_dir=Path(run.first_dir),
        logging_dir=settings.paths.logging_dir,
        working_dir=settings.paths.working_dir,
        project=settings.publishing.project,
        run_name=settings.publishing.run_name,
        state_dir=settings.paths.state_dir / name / run.name,
        where=known.where,
        options=settings.options.get(name, {}),
        places={series_name(run, it): place for it, place in known.places.items()},
    )
