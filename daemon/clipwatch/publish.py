"""The outbox: brings to each tracker what it lacks, in a thread of its own for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from clipwatch import state as s
from clipwatch.errors import TrackerRefused, TrackerUnavailable
from clipwatch.events import ImageScore, ImagesScored
from clipwatch.journal import Journal
from clipwatch.protocol import EvaluationProtocol
from clipwatch.trackers import Result, Series, Tracker


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


def series_of(run: s.Run, protocol: EvaluationProtocol, log: Path, images: Path) -> Series:
    """Build the series of a run's present protocol; scores are read from the log when asked for."""
    results = []
    for seq, id_ in enumerate(run.scored.get(run.protocol, ())):
        evaluation = run.evaluations[id_]
        if evaluation.clip is None or evaluation.finished is None:
            raise ValueError(f"{id_} is scored but has no result")
        names = (id_, evaluation.checkpoint)
        results.append(Result(seq, evaluation.step, *names, evaluation.clip, evaluation.finished))

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
            for recorded in journal.read(stream=evaluation_stream(run, evaluation))
            if isinstance(recorded.event, ImagesScored)
            for image in recorded.event.images
        }
    keys = ((prompt.id, index) for prompt, index, _ in protocol.images())
    return tuple(found[key] for key in keys if key in found)


def evaluation_stream(run: str, evaluation: str) -> str:
    """Name the stream that holds an evaluation."""
    return f"evaluation/{run}/{evaluation}"


class Publisher:
    """One tracker's thread; a slow or hanging tracker delays nobody else.

    Args:
        name: The tracker's name.
        tracker: Makes the tracker, in the thread.
        receive: Called with each outcome, from the thread.
    """

    def __init__(
        self, name: str, tracker: Callable[[], Tracker], receive: Callable[[Outcome], None]
    ) -> None:
        self.name = name
        self.busy = False
        self._make = tracker
        self._receive = receive
        self._jobs: SimpleQueue[Series] = SimpleQueue()
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

    def publish(self, series: Series) -> None:
        """Hand over a series; one at a time, `busy` until its outcome was taken up."""
        self.busy = True
        self._jobs.put(series)

    def _work(self) -> None:
        while True:
            series = self._jobs.get()
            self._receive(self._attempt(series))

    def _attempt(self, series: Series) -> Outcome:
        try:
            tracker = self._make()
            shown = bring(tracker, series)
            ids = tuple(series.results[seq].evaluation for seq in sorted(shown))
            return Outcome(self.name, ids, tracker.where(series), tracker.hint(series))
        except TrackerRefused as error:
            return Outcome(self.name, problem=str(error), refused=True)
        except TrackerUnavailable as error:
            return Outcome(self.name, problem=str(error))
        except Exception as error:  # noqa: BLE001 - a faulty adapter must not stop the others
            return Outcome(self.name, problem=f"{type(error).__name__}: {error}")
