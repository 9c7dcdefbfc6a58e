"""The outbox: brings to each tracker what it lacks, in a thread of its own for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from clipwatch import events as e
from clipwatch import state as s
from clipwatch.diary import Diary
from clipwatch.errors import TrackerRefused, TrackerUnavailable
from clipwatch.events import ImageScore, ImagesScored
from clipwatch.journal import Journal
from clipwatch.protocol import EvaluationProtocol
from clipwatch.settings import Settings
from clipwatch.trackers import Result, Series, Target, Tracker


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


def series_of(run: s.Run, log: Path, images: Path) -> Series:
    """Build the series of a run's present protocol; scores are read from the log when asked for."""
    protocol = run.protocols[run.protocol]
    results = []
    for seq, id_ in enumerate(run.scored.get(run.protocol, ())):
        evaluation = run.evaluations[id_]
        if not (evaluation.clip and evaluation.finished and evaluation.completed):
            raise ValueError(f"{id_} is scored but has no result")
        done = evaluation.completed
        results.append(
            Result(
                seq=seq,
                step=evaluation.step,
                evaluation=id_,
                checkpoint=evaluation.checkpoint,
                clip=evaluation.clip,
                finished=evaluation.finished,
                categories=done.categories,
                others=done.others,
                against_base=done.against_base,
                against_best=done.against_best,
                advice=tuple(it for it in run.advice if it.evaluation == id_),
            )
        )

    def scores(id_: str) -> tuple[ImageScore, ...]:
        return scores_of(log, run.name, id_, protocol)

    return Series(run.name, s.series_name(run), protocol, tuple(results), scores, images)


def scores_of(
    log: Path, run: str, evaluation: str, protocol: EvaluationProtocol
) -> tuple[ImageScore, ...]:
    """Read the scores of one evaluation from the log, in the protocol's order."""
    with Journal(log, read_only=True) as journal:
        found = {
            (image.prompt_id, image.index): image
            for recorded in journal.read(stream=s.evaluation_stream(run, evaluation))
            if isinstance(recorded.event, ImagesScored)
            for image in recorded.event.images
        }
    keys = ((prompt.id, index) for prompt, index, _ in protocol.images())
    return tuple(found[key] for key in keys if key in found)


def images_of(state_dir: Path, run: str) -> Path:
    """Return the folder of a run's images; each evaluation has its own below it."""
    return state_dir / "images" / run


class Outbox:
    """What each tracker still lacks, and who is bringing it.

    Args:
        settings: Of the run.
        log: The log's file; each thread reads it for itself.
        diary: Gets what the trackers show, or why they do not.
        send: Takes the messages that belong to `published`, from the trackers' threads.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses before new attempts.
        make: Makes an adapter.
    """

    def __init__(
        self,
        settings: Settings,
        log: Path,
        diary: Diary,
        send: Callable[[Outcome], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
        make: Callable[[str, Target], Tracker],
    ) -> None:
        self._log = log
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
        for name in settings.trackers:
            if name not in self._publishers:
                self._publishers[name] = Publisher(name, self._send)

    @property
    def busy(self) -> bool:
        """Whether any tracker is at work."""
        return any(publisher.busy for publisher in self._publishers.values())

    def look(self) -> None:
        """Note whose series belongs elsewhere by now, as into a trainer's run that has appeared."""
        self._moved = [name for name in self._settings.trackers if self._elsewhere(name)]

    def offer(self) -> None:
        """Set those trackers to work that lack something and may try; each one after a start."""
        run, now = self._diary.run, self._clock()
        for name in (*self.lacking, *self._moved):
            publisher = self._publishers[name]
            fresh = name not in self._tried  # a restart is a new chance
            if not publisher.busy and (fresh or s.may_publish(run, name, now)):
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
        known = self._diary.run.trackers.get(name, s.TrackerState())
        if not outcome.problem:
            new = tuple(id_ for id_ in outcome.shown if id_ not in known.published)
            if new or outcome.where != known.where:
                self._diary.record(stream, e.Published(name, new, outcome.where))
                self._tell(name, outcome.hint)
            return
        attempt = known.attempt + 1
        again = None if outcome.refused else self._clock() + s.pause(attempt, self._luck())
        self._diary.record(stream, e.PublishFailed(name, outcome.problem, attempt, again))

    @property
    def lacking(self) -> list[str]:
        """The trackers that do not show everything."""
        return [name for name in self._settings.trackers if s.unpublished(self._diary.run, name)]

    def hint(self) -> None:
        """Say for each tracker how a person sees its series; what was said before is not."""
        run = self._diary.run
        for name in self._settings.trackers if run.protocol else ():
            with suppress(TrackerRefused, TrackerUnavailable):  # told when it is to publish
                tracker = self._make(name, self._target(run, name))
                self._tell(name, tracker.hint(self._series(run)))

    def _elsewhere(self, name: str) -> bool:
        """Whether all of a series is shown, but not where it belongs.

        Only who shows its place by a command is asked, which costs nothing: others ask a server.
        """
        run = self._diary.run
        where = run.trackers.get(name, s.TrackerState()).where
        shown = run.scored.get(run.protocol) and not s.unpublished(run, name)
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

    def _target(self, run: s.Run, name: str) -> Target:
        known = run.trackers.get(name, s.TrackerState())
        return target(self._settings, run.name, name, known.where)

    def _series(self, run: s.Run) -> Series:
        images = images_of(self._settings.state_dir, run.name)
        return series_of(run, self._log, images)


def target(settings: Settings, run: str, name: str, where: str = "") -> Target:
    """Return where a run's tracker is to publish; `where` is the place of earlier publications."""
    return Target(
        output_dir=settings.output_dir,
        logging_dir=settings.logging_dir,
        working_dir=settings.working_dir,
        project=settings.project,
        run_name=settings.run_name,
        state_dir=settings.state_dir / name / run,
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
