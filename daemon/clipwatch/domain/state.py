"""What the log means (see `fold`), and what follows from it.

Pure: no files, no clock, no torch. A test is `assert decide(state, now) == [...]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from clipwatch.domain.decided import EvaluationOutdone, Reference
from clipwatch.domain.events import (
    AdviceGiven,
    EvaluationCompleted,
    WeightFile,
)
from clipwatch.domain.kinds import (
    CheckpointKind,
    CheckpointState,
    EvaluationState,
    FailureKind,
    Unit,
)
from clipwatch.domain.losses import Losses
from clipwatch.domain.protocol import EvaluationProtocol, ScorerSpec
from clipwatch.domain.sighting import Weights
from clipwatch.statistics import Summary

BASE_NAME = "base-model"
"""The name of the checkpoint that is none, the base model alone; a trainer's have a number."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as last seen, and since when it is so; `path` as in CheckpointFound.

    `kind` is None before it was whole. One that was `skipped` lies there as it was when newer ones
    came before its turn, which its kind, files and digest still tell; one that was `asked` for had
    been, and a person had it back.
    """

    step: int
    name: str
    path: str
    state: CheckpointState
    reason: str = ""
    kind: CheckpointKind | None = None
    component: str = ""
    files: tuple[WeightFile, ...] = ()
    digest: str = ""
    since: datetime | None = None
    unit: Unit = "step"
    skipped: bool = False
    asked: bool = False

    @property
    def is_base(self) -> bool:
        """It is none of the training: the base model alone."""
        return self.name == BASE_NAME

    @property
    def weights(self) -> Weights:
        """What is to be loaded.

        Raises:
            ValueError: It is not whole.
        """
        if self.kind is None:
            raise ValueError(f"{self.name} is {self.state}")
        return Weights(self.kind, self.component, self.files)


@dataclass(frozen=True, slots=True)
class Course:
    """An attempt under way: since when, how many images were there then, when the last one came."""

    since: datetime
    before: int
    latest: datetime


@dataclass(frozen=True, slots=True)
class Further:
    """A scorer that scored kept images later, with the identity of its files and its own scale."""

    spec: ScorerSpec
    digest: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One checkpoint's weights under one protocol.

    `retry_at` None in a failed one means that it is given up. `done` names the images scored so
    far and is emptied when the evaluation is scored, so that long runs fold into little memory.
    `attempt` counts the failures in a row without an image in between, `cramped` all those that a
    smaller batch may mend. `images_deleted`: those on the disk, if there are any, are to go.
    `images` and `seconds` tell how many the attempt that finished made, and in which time,
    `loading` how much of that was its load; `completed` all else that was said of a scored one.
    `rescored` tells of the scorers that came later when they had scored all of its images.
    `source` is the log or the table from which it was imported, "" for one that was made here.
    """

    id: str
    checkpoint: str
    step: int
    digest: str
    protocol: str
    state: EvaluationState
    done: frozenset[tuple[str, int]] = frozenset()
    clip: Summary | None = None
    finished: datetime | None = None
    kind: FailureKind | None = None
    reason: str = ""
    attempt: int = 0
    retry_at: datetime | None = None
    cramped: int = 0
    images: int = 0
    seconds: float = 0.0
    loading: float = 0.0
    completed: EvaluationCompleted | None = None
    images_deleted: bool = False
    rescored: Mapping[str, datetime] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """What may matter beside the protocol; where attempts differed, "one, then another"."""
    source: str = ""
    course: Course | None = None
    """Of the attempt that makes images now, or did when its daemon was killed."""
    skipped: int | None = None
    """How many checkpoints had been left out when it was scored, as newer ones came; None where all
    wait for their turn, and where nobody knows."""
    reference: Reference | None = None
    """With what it is, or was, compared while it is made; None for nothing."""
    losses: Losses | None = None
    """On images that are always the same; None where none were asked for."""
    outdone: EvaluationOutdone | None = None
    """Of one that is `outdone`: by whom."""

    @property
    def of_base(self) -> bool:
        """It is of the base model alone."""
        return self.checkpoint == BASE_NAME

    @property
    def given_up(self) -> bool:
        """It failed for good."""
        return self.state == "failed" and self.retry_at is None


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went to bring one series, since that last succeeded.

    `parked`: it waits for somebody to mend something.
    """

    attempt: int = 0
    reason: str = ""
    retry_at: datetime | None = None
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """What a tracker, or a channel of advice, is known to have.

    Attributes:
        destination: Where everything goes now; "" while the log does not tell.
        had: Destination → what was read back, or taken, there: evaluations, or advice_id()s.
        places: Protocol → where a person finds its series; the one told last stands last.
        trials: Protocol → why its series is not brought to the present destination.
        more: Protocol → what the present destination showed of its series when it was read that
            the log did not know.
    """

    destination: str = ""
    had: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def has(self) -> AbstractSet[str]:
        """What is at the present destination."""
        return self.at(self.destination)

    def at(self, destination: str) -> AbstractSet[str]:
        """Return what is at a destination; the first that is told has what came before."""
        had = self.had.get(destination, frozenset())
        return had if self.destination else had | self.had.get("", frozenset())

    @property
    def where(self) -> str:
        """The place of the last publication, "" before the first."""
        return ["", *self.places.values()][-1]

    def trial(self, protocol: str) -> Trial:
        """Return how it goes with one series."""
        return self.trials.get(protocol, Trial())


@dataclass(frozen=True, slots=True)
class Run:
    """One output directory: all that happened to its checkpoints.

    It may have been moved: `first_dir` is its path when the run began, `output_dir` that of now,
    and `there` tells since when. `begun` is when the run began: copies of a log share it.
    """

    name: str
    output_dir: str
    protocol: str
    tracker_names: tuple[str, ...]
    settings: Mapping[str, str]
    problem: str = ""
    lacking: str = ""
    """Why the models cannot be used, "" when they can."""
    protocols: Mapping[str, EvaluationProtocol] = field(default_factory=dict)
    """By digest, in the order of their first use."""
    continued: Mapping[str, str] = field(default_factory=dict)
    """Digest of a protocol → that of the earlier one whose curve it continues."""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    scored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Protocol → evaluations in the order of their scoring: the place of one is its seq.

    One whose weights came back in the place of others is last again: the last of a step stands.
    """
    trackers: Mapping[str, Received] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds that finished evaluations took, by phase."""
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    """Protocol → the batch size that was found best."""
    advice: tuple[AdviceGiven, ...] = ()
    """In the order in which it was given, under all protocols."""
    channels: Mapping[str, Received] = field(default_factory=dict)
    first_dir: str = ""
    there: datetime | None = None
    begun: datetime | None = None
    beside: tuple[str, ...] = ()
    """The protocols in use beside `protocol`: those of further strengths."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Protocol → what told it from those beside it when it was defined."""
    further: Mapping[str, Further] = field(default_factory=dict)
    """By name, the scorers that scored kept images later."""
    unfinished: AbstractSet[str] = frozenset()
    """Names of checkpoints that are not whole yet, or not evaluated under all of `protocols_of`.

    It follows from the rest, and stands here as the others, thousands, need not be looked at.
    """
    skipped: int = 0
    """How many of `checkpoints` are; it stands here for the same reason."""

    @property
    def present(self) -> tuple[str, ...]:
        """All protocols in use; the first is that of all that has no strength."""
        return self.protocol, *self.beside

    @property
    def counts(self) -> bool:
        """Whether what it counts in is settled: something was whole, or evaluated."""
        return next(self._counted(), None) is not None

    @property
    def unit(self) -> Unit:
        """What its checkpoints are counted in; those of another unit are left out.

        Before one of them is whole it is that of the first.
        """
        first = (it.unit for it in self.checkpoints.values() if not it.is_base)
        return next(self._counted(), next(first, "step"))

    def _counted(self) -> Iterator[Unit]:
        """Yield what those count that are whole, then those that were evaluated."""
        known = self.checkpoints
        yield from (it.unit for it in known.values() if it.state == "whole" and not it.is_base)
        named = (it.checkpoint for it in self.evaluations.values() if not it.of_base)
        yield from (known[name].unit for name in named if name in known)


State = Mapping[str, Run]
"""Runs by name."""


def evaluation_id(checkpoint: Checkpoint, protocol: str) -> str:
    """Name an evaluation: the same weights under the same protocol are one evaluation."""
    return name_evaluation(checkpoint.name, checkpoint.digest, protocol)


def name_evaluation(checkpoint: str, digest: str, protocol: str) -> str:
    """Name an evaluation by its checkpoint's name, its weights' digest and its protocol's."""
    return f"{checkpoint}/{digest[:8]}/{protocol[:8]}"


def evaluation_of(run: Run, checkpoint: Checkpoint, protocol: str) -> Evaluation | None:
    """Return the evaluation of the checkpoint's present weights, if there was an attempt."""
    return run.evaluations.get(evaluation_id(checkpoint, protocol))


AT_STRENGTHS: frozenset[CheckpointKind | None] = frozenset({"lora", "lycoris"})
"""Kinds that act at a strength."""


def protocols_of(run: Run, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return under which protocols it is to be scored: an adapter at each strength."""
    return run.present if checkpoint.kind in AT_STRENGTHS else run.present[:1]


def is_unfinished(run: Run, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is one of `Run.unfinished`; what is discarded is not."""
    if checkpoint.state != "whole":
        return checkpoint.state == "partial"
    return next(open_protocols(run, checkpoint), None) is not None


def open_protocols(run: Run, checkpoint: Checkpoint) -> Iterator[str]:
    """Yield the protocols under which a whole checkpoint is still to be evaluated."""
    for protocol in protocols_of(run, checkpoint):
        evaluation = evaluation_of(run, checkpoint, protocol)
        ended = evaluation is not None and evaluation.state in ("scored", "outdone")
        if evaluation is None or not (ended or evaluation.given_up):
            yield protocol


CheckpointKey = tuple[str, str]
"""A checkpoint's name and the digest of its weights."""


def images(run: Run) -> int:
    """Return how many images were scored, under every protocol."""
    return sum(it.clip.n if it.clip else len(it.done) for it in run.evaluations.values())
