"""What is known of an evaluation that may end early; a part of the vocabulary of `events`."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.domain.kinds import Finding


@dataclass(frozen=True, slots=True)
class Reference:
    """The evaluation with which another is compared while it is made; `run` is "" for its own."""

    evaluation: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """How an evaluation compares with its reference, by an interval that holds at every look.

    Attributes:
        reference: With what.
        finding: "above" or "below" it, "within" `worth` of it, or "open": not even all prompts say.
        prompts: After so many it was known; of an open one all.
        delta: Mean over these of its scores less the reference's.
        low, high: 95 % interval of `delta`, valid whenever one stops.
        worth: The difference that matters.
    """

    reference: Reference
    finding: Finding
    prompts: int
    delta: float
    low: float
    high: float
    worth: float


@dataclass(frozen=True, slots=True)
class EvaluationOutdone:
    """No more images are made: only the best was asked for, and others are surely better.

    `clipwatch rank` asks so. `prompts` of all `of` were seen; `by` had the highest mean over these,
    `delta` less which the evaluation has. Reopened, it goes on with the images that it has.
    """

    evaluation: str
    by: str
    prompts: int
    of: int
    delta: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """That means are estimates of those of all prompts, as a part of them was scored alone.

    Attributes:
        on: The evaluations of all prompts by which the rest was told (see `statistics.part`).
        effective: By scorer, how many images would tell their plain mean as closely.
        plain: By scorer, the mean of the images that were made.
    """

    on: tuple[str, ...]
    effective: dict[str, float]
    plain: dict[str, float]
