"""The outbox: brings to each tracker what it lacks, in a thread of its own for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from clipwatch.delivery.outbox import Outcome, Publisher, target
from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.domain.delivered import may_publish, unpublished
from clipwatch.domain.events import Published, PublishFailed
from clipwatch.domain.retries import pause
from clipwatch.domain.state import Run, TrackerState
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.loop.diary import Diary
from clipwatch.results.reading import series_of
from clipwatch.results.series import Series
from clipwatch.settings import Settings


class Outbox:
    """What each tracker still lacks, and who is bringing it.

    Args:
        settings: Of the run.
        diary: Gets what the trackers show, or why they do not.
        send: Takes the messages that belong to `published`, from the trackers' threads.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make: Makes an adapter.
    """

    def __init__(
        self,
        settings: Settings,
        diary: Diary,
        send: Callable[[Outcome], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
        make: Callable[[str, Target], Tracker],
    ) -> None:
        self._diary = diary
        self._send = send
        self._clock = clock
        self._luck = luck
        self._make = make
        self._publishers: dict[str, Publisher] = {}
        self._hints: dict[str, str] = {}
        self._moved: list[str] = []
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Publish by these settings from here on; every tracker may try again at once.

        One that is no longer named ends what it is at.
        """
        self._settings = settings
        self._tried: set[str] = set()
        for name in settings.publishing.trackers:
            if name not in self._publishers:
                self._publishers[name] = Publisher(name, self._send)

    @property
    def busy(self) -> bool:
        """Whether any tracker is at work."""
        return any(publisher.busy for publisher in self._publishers.values())

    def look(self) -> None:
        """Note whose series belongs elsewhere by now, as into a trainer's run that has appeared."""
        self._moved = [name for name in self._settings.publishing.trackers if self._elsewhere(name)]

    def offer(self) -> None:
        """Set those trackers to work that lack something and may try; each one after a start."""
        run, now = self._diary.run, self._clock()
        for name in (*self.lacking, *self._moved):
            publisher = self._publishers[name]
            fresh = name not in self._tried  # a restart is a new chance
            if not publisher.busy and (fresh or may_publish(run, name, now)):
                self._tried.add(name)
                self._diary.working(name, "publishing")
                publisher.publish(
                    partial(self._make, name, self._target(run, name)), self._series(run)
                )

    def published(self, outcome: Outcome) -> None:
        """Write down what came of an attempt, and let the tracker work again."""
        name = outcome.tracker
        self._publishers[name].busy = False
        self._diary.rested(name)
        self._moved = [it for it in self._moved if it != name]
        stream = f"tracker/{self._diary.run.name}/{name}"
        known = self._diary.run.trackers.get(name, TrackerState())
        if not outcome.problem:
            new = tuple(id_ for id_ in outcome.shown if id_ not in known.published)
            if new or outcome.where != known.where:
                self._diary.record(stream, Published(name, new, outcome.where))
                self._tell(name, outcome.hint)
            return
        attempt = known.attempt + 1
        again = None if outcome.refused else self._clock() + pause(attempt, self._luck())
        self._diary.record(stream, PublishFailed(name, outcome.problem, attempt, again))

    @property
    def lacking(self) -> list[str]:
        """The trackers that do not show everything."""
        return [
            name
            for name in self._settings.publishing.trackers
            if unpublished(self._diary.run, name)
        ]

    def hint(self) -> None:
        """Say for each tracker how a person sees its series; what was said before is not."""
        run = self._diary.run
        for name in self._settings.publishing.trackers if run.protocol else ():
            with suppress(TrackerRefused, TrackerUnavailable):  # told when it is to publish
                tracker = self._make(name, self._target(run, name))
                self._tell(name, tracker.hint(self._series(run)))

    def _elsewhere(self, name: str) -> bool:
        """Whether all of a series is shown, but not where it belongs.

        Only who shows its place by a command is asked, which costs nothing: others ask a server.
        """
        run = self._diary.run
        where = run.trackers.get(name, TrackerState()).where
        shown = run.scored.get(run.protocol) and not unpublished(run, name)
        if not shown or not Path(where).is_absolute():
            return False
        with suppress(TrackerRefused, TrackerUnavailable):  # told when it is to publish
            tracker, series = self._make(name, self._target(run, name)), self._series(run)
            return bool(tracker.hint(series)) and tracker.where(series) != where
        return False

    def _tell(self, name: str, hint: str) -> None:
        if hint and self._hints.get(name) != hint:
            self._hints[name] = hint
            self._diary.say(f"{name}: to look at it: {hint}")

    def _target(self, run: Run, name: str) -> Target:
        known = run.trackers.get(name, TrackerState())
        return target(self._settings, run.name, name, known.where)

    def _series(self, run: Run) -> Series:
        return series_of(run, run.protocol, self._settings.paths.state_dir)
