"""Brings a series to a tracker, in a thread of its own for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.settings import Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: the evaluations that the tracker shows, or why none."""

    tracker: str
    shown: tuple[str, ...] = ()
    where: str = ""
    hint: str = ""
    problem: str = ""
    refused: bool = False


def bring(tracker: Tracker, series: Series) -> frozenset[int]:
    """Publish what the tracker lacks and return what it shows, by its own word.

    Raises:
        TrackerUnavailable: Also when it shows less than it was given.
        TrackerRefused: It will take nothing until somebody mends something.
    """
    everything = frozenset(range(len(series.results)))
    shown = tracker.published(series)
    if missing := sorted(everything - shown):
        tracker.publish(series, missing)
        shown = tracker.published(series)
    if lacking := everything - shown:
        raise TrackerUnavailable(f"{len(lacking)} results were sent but are not shown")
    return shown


def target(settings: Settings, run: str, name: str, where: str = "") -> Target:
    """Return where a run's tracker is to publish; `where` is the place of earlier publications."""
    return Target(
        output_dir=settings.paths.output_dir,
        logging_dir=settings.paths.logging_dir,
        working_dir=settings.paths.working_dir,
        project=settings.publishing.project,
        run_name=settings.publishing.run_name,
        state_dir=settings.paths.state_dir / name / run,
        where=where,
        options=settings.options.get(name, {}),
    )


class Publisher:
    """One tracker's thread; a slow or hanging tracker delays nobody else.

    Args:
        name: The tracker's name.
        receive: Called with each outcome, from the thread.
    """

    def __init__(self, name: str, receive: Callable[[Outcome], None]) -> None:
        self.name = name
        self.busy = False
        self._receive = receive
        self._jobs: SimpleQueue[tuple[Callable[[], Tracker], Series]] = SimpleQueue()
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

    def publish(self, make: Callable[[], Tracker], series: Series) -> None:
        """Hand over a series for the tracker that `make` makes; one at a time."""
        self.busy = True
        self._jobs.put((make, series))

    def _work(self) -> None:
        while True:
            self._receive(self._attempt(*self._jobs.get()))

    def _attempt(self, make: Callable[[], Tracker], series: Series) -> Outcome:
        try:
            tracker = make()
            shown = bring(tracker, series)
            ids = tuple(series.results[seq].evaluation for seq in sorted(shown))
            return Outcome(self.name, ids, tracker.where(series), tracker.hint(series))
        except TrackerRefused as error:
            return Outcome(self.name, problem=str(error), refused=True)
        except TrackerUnavailable as error:
            return Outcome(self.name, problem=str(error))
        except Exception as error:  # noqa: BLE001 - a faulty adapter must not stop the others
            return Outcome(self.name, problem=f"{type(error).__name__}: {error}")
