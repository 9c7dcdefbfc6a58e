"""From finished evaluations to results: judged one after the other, written down, with advice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from clipwatch.domain.events import EvaluationCompleted
from clipwatch.domain.state import CheckpointKey
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Finished
from clipwatch.judging.base import Judge, Judgement, Question
from clipwatch.kit.errors import ClipwatchError, LogLocked
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import scores_of
from clipwatch.settings import Advice
from clipwatch.statistics import summarize

IDLE_SECONDS = 3600.0
"""How long a judge that is not asked keeps its memory."""

PATIENCE_SECONDS = 2.0
"""How long the end waits for a question that was cut short."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Message: what the scores of a finished evaluation say.

    `problem` is why that is no more than their mean; there is an error if they cannot even be read.
    """

    job: Job
    said: Finished
    judgement: Judgement | ClipwatchError
    problem: str = ""


class Bench:
    """The thread that asks a judge for all runs of a daemon, from the first question on.

    The judge's process ends with the thread that asked first (see JudgeProcess), so this one lives
    as long as the daemon.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._works: SimpleQueue[Callable[[Judge], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, work: Callable[[Judge], None]) -> None:
        """Have the judge asked, after all that came before."""
        self._works.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="judging", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Leave what is open for the next start."""
        self._closed = True
        self._works.put(None)
        self._judge.close()
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    def _work(self) -> None:
        while not self._closed:
            try:
                work = self._works.get(timeout=IDLE_SECONDS)
            except Empty:
                self._judge.close()  # until the next question
                continue
            if work is not None:
                work(self._judge)
        self._judge.close()  # which may just have been asked all the same


class Judgements:
    """Has results judged in the order in which they came: each is compared with those before it.

    Args:
        advice: The settings.
        log: Gets the results.
        send: Takes the messages that belong to `judged`, from another thread.
        bench: Has the judge asked.
    """

    def __init__(
        self, advice: Advice, log: RunLog, send: Callable[[Judged], None], bench: Bench
    ) -> None:
        self.advice = advice
        self._log = log
        self._send = send
        self._bench = bench
        self._open: deque[tuple[Job, Finished]] = deque()  # the first one is being judged
        self._closed = False

    @property
    def ids(self) -> frozenset[str]:
        """The evaluations whose result is not written down yet."""
        return frozenset(job.id for job, _ in self._open)

    @property
    def keys(self) -> frozenset[CheckpointKey]:
        """The checkpoints that these are of."""
        return frozenset(job.key for job, _ in self._open)

    def ask(self, job: Job, said: Finished) -> None:
        """Have an evaluation judged, of which all images are in the log."""
        self._open.append((job, said))
        if len(self._open) == 1:
            self._begin()

    def judged(self, message: Judged) -> None:
        """Write down the result, and what is advised.

        Raises:
            ClipwatchError: The scores cannot be read.
        """
        job, said, found = message.job, message.said, message.judgement
        self._open.popleft()
        if isinstance(found, ClipwatchError):
            raise found
        if message.problem:
            self._log.say(f"{job.title}: no interval, no advice: {message.problem}")
        cramped = self._log.run.evaluations[job.id].cramped
        completed = EvaluationCompleted(
            evaluation=job.id,
            scores=found.scores,
            truncated=said.truncated,
            seconds=said.seconds,
            phases=said.phases,
            images=found.scores[""].n - job.had,
            # after a kill that may have had other reasons a small one is not kept for good
            batch_size=0 if cramped else said.batch_size,
            categories=found.categories,
            made=said.made,
            against_base=found.against_base,
            against_best=found.against_best,
            decision=found.decision,
            estimate=found.estimate,
            answered=found.answered,
        )
        self._log.record_evaluation(job.id, completed, *found.advice)
        if self._open:
            self._begin()

    def _begin(self) -> None:
        job, said = self._open[0]
        question = Question(
            log=str(self._log.path),
            run=self._log.name,
            evaluation=job.id,
            low=self.advice.low,
            saturated=self.advice.saturated,
            after=self.advice.after,
            worth=self.advice.worth,
            stretch=self.advice.stretch,
        )
        self._bench.take(lambda judge: self._answer(judge, job, said, question))

    def close(self) -> None:
        """Leave what is open for the next start."""
        self._closed = True

    def _answer(self, judge: Judge, job: Job, said: Finished, question: Question) -> None:
        while not self._closed:
            answer = self._attempt(judge, job, said, question)
            if not isinstance(answer.judgement, LogLocked):
                self._send(answer)
                return

    def _attempt(self, judge: Judge, job: Job, said: Finished, question: Question) -> Judged:
        try:
            with self._log.during(job.title, "comparing it with those before it"):
                return Judged(job, said, judge.judge(question))
        except Exception as error:  # noqa: BLE001 - the mean is there all the same
            problem = str(error) or type(error).__name__
        try:
            images = scores_of(self._log.path, question.run, job.id, job.protocol)
            names = [scorer.name for scorer in job.protocol.scorers]
            means = {name: summarize([image.scores[name] for image in images]) for name in names}
            return Judged(job, said, Judgement(means), problem)
        except ClipwatchError as error:
            return Judged(job, said, error)
