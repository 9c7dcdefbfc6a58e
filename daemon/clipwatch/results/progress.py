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
        hand: What is evaluated now; None for nothing, and where nobody watches.
        waiting: Evaluations that are still to come, without that in hand.
        left: Seconds until all of them are done; None where nothing tells, as none was measured.
        pace: What a checkpoint costs, against how often one is saved; None without a protocol.
    """

    watcher: Watcher | None
    hand: Hand | None
    waiting: int
    left: float | None
    pace: Pace | None

    def done_at(self, now: datetime) -> datetime | None:
        """Return when all will be done; None where that is not known, or nothing is to do."""
        if self.left is None or not (self.hand or self.waiting):
            return None
        return now + timedelta(seconds=self.left)


def progress(run: Run, now: datetime, watcher: Watcher | None) -> Progress:
    """Tell how far a run is at some time, and under whose eyes."""
    hand = _in_hand(run, now, watcher.since) if watcher else None
    waiting = len(pending(run)) - (hand is not None)
    protocol = run.protocols.get(run.protocol)
    if protocol is None:
        return Progress(watcher, hand, waiting, None, None)
    pace = pace_of(protocol, run.settings, run, saves_of(run), now.timestamp())
    going = watcher and not run.problem and not run.lacking
    left = _left(pace, hand, waiting) if going else None
    return Progress(watcher, hand, waiting, left, pace)


def _in_hand(run: Run, now: datetime, since: datetime) -> Hand | None:
    """Return the attempt of which was heard last; what a kill ended was begun before its daemon."""
    whole = (run.checkpoints[name] for name in run.unfinished)
    found = (
        evaluation_of(run, it, protocol)
        for it in whole
        if it.state == "whole"
        for protocol in protocols_of(run, it)
    )
    begun = ((it, it.course) for it in found if it and it.course)
    under_way = [(at.latest, it.id, it) for it, at in begun if at.since >= since]
    if not under_way:
        return None
    _, _, evaluation = max(under_way)
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


def _left(pace: Pace, hand: Hand | None, waiting: int) -> float | None:
    each = pace.seconds / pace.times
    if not each and hand and hand.per_second:
        each = hand.images / hand.per_second
    own = 0.0
    if hand:
        own = each * (1 - hand.done / hand.images) if hand.left is None else hand.left
    return own + waiting * each if each else None
