"""Delivering a series, as the daemon's threads do and as a command may: what comes of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clipwatch.delivery.channels import Channel, Message
from clipwatch.delivery.outbox import Outbox
from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.domain.delivered import Destination, addressed, owed
from clipwatch.domain.events import (
    AdviceGiven,
    AdviceNotSent,
    AdviceSent,
    DestinationChanged,
    Published,
    PublishFailed,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.reading import series_of
from clipwatch.results.series import Series
from clipwatch.testing.memory import MemoryTracker
from loop_kit import until
from world import World, checkpoint, publishing_to, settings


class Moving(MemoryTracker):
    """A tracker that is elsewhere the next time it is asked, `moves` times; its rows come along."""

    moves = 0
    place = 0

    def destination(self) -> str:
        """Return where things go now."""
        now = f"place {self.place}"
        if self.moves:
            self.moves -= 1
            self.place += 1
        return now


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a run with two results, published to the tracker that it names."""
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    return world


def tracker_of(world: World, kind: type[MemoryTracker] = MemoryTracker) -> MemoryTracker:
    kept = world.trackers["memory"]
    assert isinstance(kept, MemoryTracker)
    return kind(kept.target)


def outbox_of(world: World, make: Callable[[str, Target], Tracker]) -> Outbox:
    named = publishing_to(world.settings, "memory", "later")
    return Outbox(world.run, named, make, lambda: datetime.now(UTC), random.random)


def series(world: World) -> Series:
    return series_of(world.run, world.run.protocol, world.settings.paths.state_dir)


def test_a_command_delivers_as_the_daemon_does(world: World) -> None:
    """What comes of it is written down, and then nothing is owed to that tracker."""
    later = tracker_of(world)
    outbox = outbox_of(world, lambda *_: later)
    assert ("tracker", "later") in outbox.receivers
    to = outbox.destination("tracker", "later")
    assert to == Destination("tracker", "later", "memory")
    events = outbox.deliver(to, series(world))
    with Journal(world.log) as journal:
        projection = Projection(journal)
        stream = f"tracker/{world.run.name}/later"
        projection.record(world.run.name, stream, *addressed(world.run, to), *events)
    (published,) = events
    assert isinstance(published, Published)
    assert published.evaluations == tuple(world.run.scored[world.run.protocol])
    assert (published.destination, published.protocol) == ("memory", world.run.protocol)
    assert owed(world.run, "tracker", "later") == {}
    assert len(later.rows["clipwatch"]) == 2
    assert outbox_of(world, lambda *_: later).deliver(to, series(world)) == []


def test_a_tracker_that_moves_meanwhile_is_followed(world: World) -> None:
    """What is written down is where it was read back, not where it was sent first."""
    later = tracker_of(world, Moving)
    outbox = outbox_of(world, lambda *_: later)
    to = outbox.destination("tracker", "later")
    later.moves = 1  # type: ignore[attr-defined]
    (published,) = outbox.deliver(to, series(world))
    assert to.place == "place 0"
    assert isinstance(published, Published)
    assert published.destination == "place 1"
    assert len(later.rows["clipwatch"]) == 2


def test_a_tracker_that_never_stays_is_given_up_for_now(world: World) -> None:
    """An adapter that tells another destination each time is a fault, and tried again later."""
    later = tracker_of(world, Moving)
    later.moves = 99  # type: ignore[attr-defined]
    outbox = outbox_of(world, lambda *_: later)
    (failed,) = outbox.deliver(outbox.destination("tracker", "later"), series(world))
    assert isinstance(failed, PublishFailed)
    assert failed.retry_at is not None


@pytest.mark.parametrize(
    ("error", "again"),
    [(TrackerUnavailable("503"), True), (TrackerRefused("no key"), False), (OSError("x"), True)],
)
def test_an_adapter_that_cannot_be_made_is_told(
    world: World, error: Exception, *, again: bool
) -> None:
    """The reason stands in the event, with the next try or none."""

    def make(_name: str, _target: Target) -> Tracker:
        raise error

    to = Destination("tracker", "later", "somewhere")
    (failed,) = outbox_of(world, make).deliver(to, series(world))
    assert isinstance(failed, PublishFailed)
    assert str(error) in failed.reason
    assert (failed.retry_at is not None) is again
    assert failed.destination == "somewhere"


@pytest.mark.parametrize("breaks", [lambda *_: 1 / 0, lambda *_: sys.exit("no licence")])
def test_a_daemon_survives_an_adapter_that_breaks(
    world: World, monkeypatch: pytest.MonkeyPatch, breaks: Callable[..., Any]
) -> None:
    """Asked where it publishes, for its hint or a series: the others go on, also if it exits."""
    checkpoint(world.output, 3, 3)
    broken = tracker_of(world)
    world.trackers["broken"] = broken
    for method in ("destination", "hint", "where", "published"):
        monkeypatch.setattr(broken, method, breaks)
    assert world.once() == 1
    assert sorted(world.rows()) == [0, 1, 2]
    told = str(world.said)
    assert "ZeroDivisionError: division by zero" in told or "SystemExit: no licence" in told
    monkeypatch.undo()
    assert world.once() == 0
    assert sorted(world.rows("broken")) == [0, 1, 2]


def test_what_a_channel_took_before_it_failed_is_not_sent_again(world: World) -> None:
    """Advice that it took is written down beside the failure of the next one."""
    run = world.run
    ids = run.scored[run.protocol]
    with Journal(world.log) as journal:
        for id_ in ids:
            stream = evaluation_stream(run.name, id_)
            given = AdviceGiven(id_, run.evaluations[id_].step, "low", "look at it")
            journal.append(run.name, stream, journal.version(stream), [given])
    taken: list[str] = []

    def send(_run: str, advice: Message, _shown: object) -> None:
        if taken:
            raise TrackerUnavailable("503")
        taken.append(advice.evaluation)

    named = replace(world.settings.advice, webhook="http://127.0.0.1:9/x")
    outbox = replace(outbox_of(world, lambda *_: tracker_of(world)), run=world.run)
    outbox = replace(outbox, settings=replace(outbox.settings, advice=named))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "clipwatch.delivery.outbox.channels", lambda _: {"webhook": Channel("x", send)}
        )
        events = outbox.deliver(outbox.destination("channel", "webhook"), series(world))
    sent, failed = events
    assert isinstance(sent, AdviceSent)
    assert sent.advice == (f"{ids[0]}/low",)
    assert isinstance(failed, AdviceNotSent)
    assert failed.reason == "503"


def test_earlier_settings_results_reach_a_tracker_that_comes_back(tmp_path: Path) -> None:
    """While the daemon runs: both series, one after the other, and the images may go then."""
    world = World(tmp_path, keep_images=0)
    checkpoint(world.output, 1, 1)
    kept = tracker_of(world)
    hidden = world.trackers.pop("memory")
    world.trackers["memory"] = Refusing(kept.target)
    assert world.once() == 1
    (first,) = world.run.evaluations
    images = world.settings.paths.state_dir / "images" / world.run.name
    assert (images / first).is_dir()
    world.settings = publishing_to(settings(tmp_path, seed=5, keep_images=0), "memory")
    assert world.once() == 1
    assert (images / first).is_dir()
    world.trackers["memory"] = hidden
    with world.live():
        until(lambda: owed(world.run, "tracker", "memory") == {})
        until(lambda: not (images / first).exists())
    assert isinstance(hidden, MemoryTracker)
    assert [len(rows) for rows in hidden.rows.values()] == [1, 1]
    assert [it.event for it in world.logged if isinstance(it.event, DestinationChanged)] == [
        DestinationChanged("tracker", "memory", "memory")
    ]


class Refusing(MemoryTracker):
    """A tracker that takes nothing."""

    def published(self, series: Series) -> frozenset[int]:
        """Refuse."""
        raise TrackerRefused(f"no room for {series.name}", fix="make some")
