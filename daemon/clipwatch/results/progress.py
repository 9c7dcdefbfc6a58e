"""What is evaluated now, how fast, and when the queue will be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from clipwatch.domain.queue import pending
from clipwatch.domain.state import Evaluation, Run, evaluation_of, protocols_of
from clipwatch.domain.strengths import title
from clipwatch.pace import Pace, pace_of, saves_of


@dataclass(frozen=True, slots=True)
class Hand:
    """An evaluation whose images are made now.

    Attributes:
        evaluation: As far as it is.
        title: For a person.
        images: Of all of it.
        per_second: Images of this attempt; 0.0 before the first.
        left: Seconds to its last image, by these; None before the first.
    """

    evaluation: Evaluation
    title: str
    images: int
    per_second: float
    left: float | None

    @property
    def done(self) -> int:
        """So many images are scored."""
        return len(self.evaluation.done)


@dataclass(frozen=True, slots=True)
class Watcher:
    """A living daemon: since when it watches, and what it has in hand beside images, in words."""

    since: datetime
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        watcher: Who watches it; None for nobody.
        hands: What is evaluated now, that of which was heard last first; () where nobody watches.
        waiting: Evaluations that are still to come, without those in hand.
        left: Seconds until all of them are done; None where nothing tells, as none was measured.
        pace: What a checkpoint costs, against how often one is saved; None without a protocol.
    """

    watcher: Watcher | None
    hands: tuple[Hand, ...]
    waiting: int
    left: float | None
    pace: Pace | None

    @property
    def hand(self) -> Hand | None:
        """What was heard of last; None where nothing is in hand."""
        return self.hands[0] if self.hands else None

    def done_at(self, now: datetime) -> datetime | None:
        """Return when all will be done; None where that is not known, or nothing is to do."""
        if self.left is None or not (self.hand or self.waiting):
            return None
        return now + timedelta(seconds=self.left)


def progress(run: Run, now: datetime, watcher: Watcher | None) -> Progress:
    """Tell how far a run is at some time, and under whose eyes."""
    hands = _in_hand(run, now, watcher.since) if watcher else ()
    waiting = len(pending(run)) - len(hands)
    protocol = run.protocols.get(run.protocol)
    if protocol is None:
        return Progress(watcher, hands, waiting, None, None)
    pace = pace_of(protocol, run.settings, run, saves_of(run), now.timestamp())
    going = watcher and not run.problem and not run.lacking
    left = _left(pace, hands, waiting) if going else None
    return Progress(watcher, hands, waiting, left, pace)


def _in_hand(run: Run, now: datetime, since: datetime) -> tuple[Hand, ...]:
    """Return the attempts under way, that of which was heard last first.

    What a kill ended was begun before its daemon. What a reload let go is none of the last: there
    are no more than slots.
    """
    whole = (run.checkpoints[name] for name in run.unfinished)
    found = (
        evaluation_of(run, it, protocol)
        for it in whole
        if it.state == "whole"
        for protocol in protocols_of(run, it)
    )
    begun = ((it, it.course) for it in found if it and it.course)
    under_way = sorted(((at.latest, it.id, it) for it, at in begun if at.since >= since))[::-1]
    hands = (_hand(run, now, it) for _, _, it in under_way[: _slots(run)])
    return tuple(it for it in hands if it)


def _hand(run: Run, now: datetime, evaluation: Evaluation) -> Hand | None:
    course, made = evaluation.course, run.protocols.get(evaluation.protocol)
    if course is None or made is None:
        return None
    images = len(made.prompts) * made.images_per_prompt
    done = len(evaluation.done)
    seconds = (course.latest - course.since).total_seconds()
    rate = (done - course.before) / seconds if seconds > 0 else 0.0
    silent = (now - course.latest).total_seconds()
    left = max(0.0, (images - done) / rate - silent) if rate else None
    return Hand(evaluation, title(run, evaluation.id), images, rate, left)


def _slots(run: Run) -> int | None:
    """Return how many evaluations may be in hand at once, as the settings say; None for any."""
    told = run.settings
    if slots := told.get("slots", ""):
        return int(slots)
    local = told.get("executor", "local") == "local"
    return told.get("device", "").count(",") + 1 if local else None


def _left(pace: Pace, hands: tuple[Hand, ...], waiting: int) -> float | None:
    each = pace.seconds / pace.times
    if not each and hands and hands[0].per_second:
        each = hands[0].images / hands[0].per_second
    own = [each * (1 - it.done / it.images) if it.left is None else it.left for it in hands]
    # several at once end together, more or less
    return (sum(own) / len(own) if own else 0.0) + waiting * each if each else None
