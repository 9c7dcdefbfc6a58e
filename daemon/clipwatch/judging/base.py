"""What is asked of, and said by, whoever judges an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from clipwatch.domain.decided import Decision, Estimate
from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.questions import Answered
from clipwatch.statistics import Comparison, Summary


@dataclass(frozen=True, slots=True)
class Question:
    """Which evaluation of which log, and from where on what is advised (see settings.Advice)."""

    log: str
    run: str
    evaluation: str
    low: float | None
    saturated: float | None
    after: int
    worth: dict[str, float | None]
    stretch: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the scores say; fields as in EvaluationCompleted."""

    scores: dict[str, Summary]
    categories: dict[str, Summary] = field(default_factory=dict)
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    advice: tuple[AdviceGiven, ...] = ()
    decision: Decision | None = None
    estimate: Estimate | None = None
    answered: dict[str, Answered] = field(default_factory=dict)


class Judge(Protocol):
    """Whoever says what scores mean; asked by one thread at a time."""

    def judge(self, question: Question) -> Judgement:
        """Say what the scores of an evaluation mean, also beside those before it.

        It may take seconds. All images of the evaluation are in the log.

        Raises:
            ClipwatchError: Nobody can tell; the text says why in a line.
        """

    def close(self) -> None:
        """Give back all that is held; from any thread, and a question under way then fails.

        It may be asked again, and then starts anew.
        """
