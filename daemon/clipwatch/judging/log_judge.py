"""The judge that reads a log, and keeps of it what it looks back on."""

from __future__ import annotations

import time
from pathlib import Path

from clipwatch.domain.events import ImageScore
from clipwatch.domain.fold import evolve
from clipwatch.domain.state import Run, State
from clipwatch.journal import Journal
from clipwatch.judging.advice import Point
from clipwatch.judging.answer import answer, looked_back_on
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.questions import answered
from clipwatch.kit.errors import ClipwatchError, LogLocked
from clipwatch.results.reading import ordered, read_images, read_losses
from clipwatch.results.tables import score_tables
from clipwatch.statistics.intervals import describe

LOCKED_SECONDS = 1.0
"""Pause before a log that another program keeps locked is tried again."""


def judge(question: Question) -> Judgement:
    """Answer one question with nothing known before; see `LogJudge.judge`."""
    return LogJudge().judge(question)


class LogJudge:
    """Judges in this very process: numpy and scipy take 75 MB and more, see `JudgeProcess`.

    Each event of a log and each evaluation's images are read once; of images it keeps those that
    the next judgement looks back on. Between two questions no file is open.
    """

    def __init__(self) -> None:
        self.close()

    def close(self) -> None:
        """Forget all."""
        self._log = ""
        self._state: State = {}
        self._seq = 0
        self._runs: set[str] = set()  # that were asked about: no other one is worked in
        self._points: dict[str, dict[str, Point]] = {}  # run -> evaluation -> its scores

    def judge(self, question: Question) -> Judgement:
        """Say what the scores of an evaluation mean, also beside those before it.

        A log that another program keeps locked is waited for.

        Raises:
            ClipwatchError: The log does not have the evaluation.
            JournalError: It cannot be read.
        """
        while True:
            if question.log != self._log:
                self.close()
            try:
                return self._judge(question)
            except LogLocked:
                self.close()  # it may have been read in part
                time.sleep(LOCKED_SECONDS)
            except BaseException:
                self.close()  # whatever it was, it is not carried on
                raise
            finally:
                self._log = question.log

    def _judge(self, question: Question) -> Judgement:
        id_ = question.evaluation
        with Journal(Path(question.log), read_only=True) as journal:
            self._catch_up(journal, question.run)
            run = self._state.get(question.run)
            if run is None or id_ not in run.evaluations:
                raise ClipwatchError(f"the log has no evaluation {id_}")
            known = self._points.get(run.name, {})
            # a scored evaluation gets no further image; the one in question may just have got some
            named = run.evaluations[id_].reference
            own = named.evaluation if named and not named.run else ""
            points = {
                it: known[it] if it in known else _point(journal, run, it)
                for it in looked_back_on(run, run.evaluations[id_].protocol, own)
                if it != id_
            }
            point = _point(journal, run, id_)
            reference, came = points.get(own), tuple[ImageScore, ...]()
            if named:
                came = read_images(journal, run.name, id_, further=False)
            if named and named.run:
                self._catch_up(journal, named.run)
            if named and (other := self._state.get(named.run)):
                reference = _point(journal, other, named.evaluation)
        self._points[run.name] = {**points, id_: point}
        return answer(run, question, point, list(points.values()), reference, came)

    def _catch_up(self, journal: Journal, run: str) -> None:
        """Read what the log has beyond what we know, and of a further run what it had before."""
        journal.known = self._seq or journal.last()  # its daemon has checked what came before us
        new = journal.read(journal.known, only=self._runs)
        self._state = evolve(self._state, ((it.run, it.event, it.time) for it in new))
        self._seq = journal.known
        if run not in self._runs:
            its = journal.landmarks(run, self._seq)
            self._state = evolve(self._state, ((it.run, it.event, it.time) for it in its))
            self._runs.add(run)


def _point(journal: Journal, run: Run, evaluation: str) -> Point:
    # not by what came later; in one order, as parts come in any
    read = read_images(journal, run.name, evaluation, further=False)
    images = ordered(read, run.protocols[run.evaluations[evaluation].protocol])
    if not images:
        raise ClipwatchError(f"{evaluation} has no images")
    scores = score_tables(images)
    looks = tuple(it.look for it in images if it.look and it.index == 0)
    known = run.evaluations[evaluation]
    losses = read_losses(journal, run.name, evaluation) if known.losses else None
    told = answered(images, run.protocols[known.protocol].prompts)
    own = (describe(scores[""]), scores, looks, run.unit, losses, told)
    return Point(evaluation, known.step, *own)
