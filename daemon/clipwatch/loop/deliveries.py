"""Has everything delivered: each tracker and each channel of advice in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Final

from clipwatch.delivery.outbox import Outbox, Outcome
from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.domain.delivered import Destination, addressed, may_try, owed, received
from clipwatch.domain.events import Published, PublishFailed
from clipwatch.domain.kinds import ReceiverKind
from clipwatch.domain.names import receiver_stream
from clipwatch.loop.run_log import RunLog
from clipwatch.loop.tables import Tabled, Tables
from clipwatch.results.reading import series_of
from clipwatch.results.series import Series
from clipwatch.settings import Settings

IDLE_SECONDS: Final = 60.0
"""How long a courier without a job keeps its thread: of a hundred runs few publish at a time."""

_WORK: Final = {"tracker": "publishing", "channel": "sending advice"}


@dataclass(frozen=True, slots=True)
class Delivered:
    """Message: what came of an attempt with the series of a protocol."""

    destination: Destination
    protocol: str
    events: list[Outcome]


class Courier:
    """The thread of one tracker or channel; a slow or hanging one delays nobody else.

    Args:
        name: Of the thread.
        receive: Called with what came of each attempt, from the thread.
    """

    def __init__(self, name: str, receive: Callable[[Delivered], None]) -> None:
        self.busy = False
        self._name = name
        self._receive = receive
        self._jobs: SimpleQueue[tuple[Outbox, Destination, Series]] = SimpleQueue()
        self._lock = threading.Lock()
        self._works = False  # whether there is a thread, which takes what comes

    def take(self, outbox: Outbox, destination: Destination, series: Series) -> None:
        """Deliver a series; one at a time."""
        self.busy = True
        with self._lock:
            self._jobs.put((outbox, destination, series))
            if not self._works:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._works = True

    def _work(self) -> None:
        while True:
            try:
                outbox, destination, series = self._jobs.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    self._works = not self._jobs.empty()  # one may have come just now
                    if not self._works:
                        return
                continue
            events = outbox.deliver(destination, series)
            self._receive(Delivered(destination, series.digest, events))


class Deliveries:
    """What is still owed, and who is bringing it.

    Args:
        settings: Of the run.
        log: Gets what the trackers show and the channels took, or why they did not.
        send: Takes the messages that belong to `delivered`, from other threads.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make: Makes an adapter.
    """

    def __init__(
        self,
        settings: Settings,
        log: RunLog,
        send: Callable[[Delivered | Tabled], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
        make: Callable[[str, Target], Tracker],
    ) -> None:
        self._log = log
        self._tables = Tables(log, clock, send)
        self._send = send
        self._tools = (make, clock, luck)
        self._couriers: dict[tuple[ReceiverKind, str], Courier] = {}
        self._hints: dict[str, str] = {}
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Deliver by these settings from here on; everything may be tried again at once.

        Who is no longer named ends what it is at.
        """
        self._settings = settings
        self._tried: set[tuple[ReceiverKind, str, str]] = set()
        self._asked: set[tuple[ReceiverKind, str]] = set()
        self._read: set[tuple[str, str]] = set()  # (tracker, protocol): those that were read

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return self._tables.busy or any(courier.busy for courier in self._couriers.values())

    @property
    def seconds_left(self) -> float:
        """How long until `offer` has something to do that was put off; infinity for nothing."""
        return self._tables.seconds_left

    @property
    def lacking(self) -> list[str]:
        """The trackers that do not show everything."""
        named, run = self._settings.publishing.trackers, self._log.run
        return [name for name in named if owed(run, "tracker", name)]

    @property
    def wanted(self) -> set[str]:
        """The evaluations that a tracker does not show, under any protocol."""
        named, run = self._settings.publishing.trackers, self._log.run
        lacks = (owed(run, "tracker", name) for name in named)
        return {id_ for lacking in lacks for ids in lacking.values() for id_ in ids}

    def look(self) -> None:
        """See where everything goes by now: into a trainer's run that has appeared, say.

        Who lacks something is asked only once after a start: it tells with the next attempt.
        """
        outbox = self._outbox()
        for kind, name in outbox.receivers:
            lacks = owed(outbox.run, kind, name)
            if (kind, name) in self._asked and (lacks or self._courier(kind, name).busy):
                continue
            self._asked.add((kind, name))
            self._address(outbox, kind, name)

    def offer(self, *, soon: bool = False) -> None:
        """Have one series brought to each who lacks one and may try; each one after a start.

        After a start each tracker is read once, too, though it is known to have all. The tables
        are brought up to date, at once unless a further result comes `soon`.
        """
        self._tables.keep(self._settings, soon=soon)
        outbox, now = self._outbox(), self._tools[1]()
        run = outbox.run
        for kind, name in outbox.receivers:
            courier = self._courier(kind, name)
            unread = [it for it in run.scored if kind == "tracker" and (name, it) not in self._read]
            wanted = dict.fromkeys((*owed(run, kind, name), *unread))
            for protocol in wanted if not courier.busy else ():
                fresh = (kind, name, protocol) not in self._tried  # a restart is a new chance
                if fresh or may_try(run, kind, name, protocol, now):
                    self._tried.add((kind, name, protocol))
                    self._log.working(name, _WORK[kind])
                    place = received(run, kind, name).destination
                    courier.take(outbox, Destination(kind, name, place), self._series(protocol))
                    break

    def delivered(self, message: Delivered | Tabled) -> None:
        """Write down what came of an attempt; the next series may be brought."""
        if isinstance(message, Tabled):
            self._tables.tabled(message)
            return
        kind, name = message.destination.kind, message.destination.name
        self._courier(kind, name).busy = False
        self._log.rested(name)
        outbox = self._outbox()
        if (kind, name) in outbox.receivers:
            self._address(outbox, kind, name, *(it.destination for it in message.events))
        if not any(isinstance(event, PublishFailed) for event in message.events):
            self._read.add((name, message.protocol))
        self._log.record(self._stream(kind, name), *message.events)
        if any(isinstance(event, Published) for event in message.events):
            self._hint(name)

    def hint(self) -> None:
        """Say for each tracker how a person sees its series; what was said before is not."""
        for name in self._settings.publishing.trackers:
            self._hint(name)

    def _address(self, outbox: Outbox, kind: ReceiverKind, name: str, *told: str) -> None:
        """Write down where a receiver's things go now, or where that was `told` to be."""
        place = told[-1] if told else ""
        with suppress(Exception, SystemExit):  # it says so when it is to publish
            place = outbox.destination(kind, name).place
        if place:
            changed = addressed(outbox.run, Destination(kind, name, place))
            self._log.record(self._stream(kind, name), *changed)

    def _hint(self, name: str) -> None:
        run = self._log.run
        if not run.protocol:
            return
        with suppress(Exception, SystemExit):  # it says so when it is to publish
            hint = self._outbox().tracker(name).hint(self._series(run.protocol))
            if hint and self._hints.get(name) != hint:
                self._hints[name] = hint
                self._log.say(f"{name}: to look at it: {hint}")

    def _courier(self, kind: ReceiverKind, name: str) -> Courier:
        if (kind, name) not in self._couriers:
            self._couriers[kind, name] = Courier(f"{kind} {name}", self._send)
        return self._couriers[kind, name]

    def _outbox(self) -> Outbox:
        return Outbox(self._log.run, self._settings, *self._tools)

    def _series(self, protocol: str) -> Series:
        return series_of(self._log.run, protocol, self._settings.paths.state_dir)

    def _stream(self, kind: ReceiverKind, name: str) -> str:
        return receiver_stream(self._log.run.name, kind, name)
