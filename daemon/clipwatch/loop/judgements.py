"""From finished evaluations to results: judged one after the other, written down, with advice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from clipwatch.domain.events import EvaluationCompleted
from clipwatch.domain.state import CheckpointKey
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Finished
from clipwatch.judging.ask import Judge, Judgement, Question
from clipwatch.loop.diary import Diary
from clipwatch.results.reading import scores_of
from clipwatch.settings import Advice
from clipwatch.statistics import summarize


@dataclass(frozen=True, slots=True)
class Judged:
    """Message: what the scores of a finished evaluation say, or why nobody could tell."""

    job: Job
    said: Finished
    judgement: Judgement | None
    problem: str = ""


class Judging:
    """Has results judged in the order in which they came: each is compared with those before it.

    Args:
        advice: The settings.
        diary: Gets the results.
        send: Takes the messages that belong to `judged`, from another thread.
        judge: Says what scores mean; may take seconds.
    """

    def __init__(
        self, advice: Advice, diary: Diary, send: Callable[[Judged], None], judge: Judge
    ) -> None:
        self.advice = advice
        self._diary = diary
        self._send = send
        self._judge = judge
        self._open: deque[tuple[Job, Finished]] = deque()  # the first one is being judged

    @property
    def keys(self) -> frozenset[CheckpointKey]:
        """The checkpoints whose result is not written down yet."""
        return frozenset(job.key for job, _ in self._open)

    def ask(self, job: Job, said: Finished) -> None:
        """Have an evaluation judged, of which all images are in the log."""
        self._open.append((job, said))
        if len(self._open) == 1:
            self._begin()

    def judged(self, message: Judged) -> None:
        """Write down the result, and what is advised."""
        job, said, found = message.job, message.said, message.judgement
        self._open.popleft()
        if found is None:
            images = scores_of(self._diary.path, self._diary.name, job.id, job.protocol)
            names = [scorer.name for scorer in job.protocol.scorers]
            found = Judgement(
                {name: summarize([image.scores[name] for image in images]) for name in names}
            )
            self._diary.say(f"{job.checkpoint.name}: no interval, no advice: {message.problem}")
        cramped = self._diary.run.evaluations[job.id].cramped
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
        )
        self._diary.record_evaluation(job.id, completed, *found.advice)
        if self._open:
            self._begin()

    def _begin(self) -> None:
        job, said = self._open[0]
        question = Question(
            log=str(self._diary.path),
            run=self._diary.name,
            evaluation=job.id,
            low=self.advice.low,
            saturated=self.advice.saturated,
            after=self.advice.after,
            worth=self.advice.worth,
            stretch=self.advice.stretch,
        )

        def ask() -> None:
            try:
                with self._diary.during(job.checkpoint.name, "comparing it with those before it"):
                    message = Judged(job, said, self._judge(question))
            except Exception as error:  # noqa: BLE001 - the mean is there all the same
                message = Judged(job, said, None, str(error) or type(error).__name__)
            self._send(message)

        threading.Thread(target=ask, name=f"judge {job.id}", daemon=True).start()
