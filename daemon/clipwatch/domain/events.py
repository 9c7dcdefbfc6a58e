"""The vocabulary of the log: what happened, in the past tense.

Rules for change: a new field gets a default; a type is never renamed or given another meaning.
Every later version of clipwatch reads every earlier log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clipwatch.domain.decided import Decision, Estimate, EvaluationOutdone, Reference
from clipwatch.domain.further import EvaluationRescored, ImagesRescored, ScorerAdded
from clipwatch.domain.imported import EvaluationImported, MoreShown
from clipwatch.domain.kinds import (
    AdviceKind,
    CheckpointKind,
    DiscardKind,
    FailureKind,
    ReceiverKind,
    Unit,
)
from clipwatch.domain.losses import LossMeasured, LossNotMeasured
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.questions import Answered
from clipwatch.domain.votes import Voted
from clipwatch.statistics import Comparison, Summary


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of a checkpoint's weights, `path` relative to the checkpoint's.

    `inode` is 0 on file systems that give a file another one now and then.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image with its prompt: `scores` by scorer, `image` its file below the image folder.

    "" names the scorer that decides; `look` is what the image has in common with others like it:
    64 bits in hex, all 0 for an even one, "" where nobody looked. `pixels` is the CRC-32 of those
    that were scored, in hex; "" where they were not kept. `answers`: each right one's probability.
    """

    prompt_id: str
    index: int
    seed: int
    scores: dict[str, float]
    image: str | None = None
    look: str = ""
    pixels: str = ""
    answers: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """By the scorer that decides."""
        return self.scores[""]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """clipwatch began to watch an output directory.

    `settings` are text without secrets; `protocol` is the digest in use, "" until models are here.
    """

    output_dir: str
    protocol: str
    trackers: tuple[str, ...]
    settings: dict[str, str]
    version: str


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The run is watched with other settings from here on; fields as in RunStarted.

    `beside` are the digests of the protocols that are in use as well: those of further strengths.
    """

    protocol: str
    trackers: tuple[str, ...]
    settings: dict[str, str]
    version: str
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProtocolDefined:
    """A protocol was used for the first time in this run; the first of all is the run's.

    `label` tells it from those that are in use beside it: "strength 0.6"; "" where it was alone.
    """

    digest: str
    protocol: EvaluationProtocol
    label: str = ""


@dataclass(frozen=True, slots=True)
class ProtocolContinued:
    """A protocol of an earlier clipwatch goes on, as nothing that is known differs.

    `digest` stays the curve's name; `by` is that of `protocol`, which knows the files' identity.
    """

    digest: str
    by: str
    protocol: EvaluationProtocol


@dataclass(frozen=True, slots=True)
class ModelsChecked:
    """The models that make the numbers are here (`problem` is ""), or why they cannot be used."""

    problem: str


@dataclass(frozen=True, slots=True)
class OutputDirChecked:
    """The output directory became readable (`problem` is "") or stopped being so."""

    problem: str


@dataclass(frozen=True, slots=True)
class OutputDirMoved:
    """The run's output directory has another path: renamed, mounted elsewhere, or by a link."""

    output_dir: str


@dataclass(frozen=True, slots=True)
class CheckpointFound:
    """A checkpoint is there but cannot be evaluated yet; `reason` says what it waits for.

    Here as in what follows on it `step` counts in `unit`s, and `path` is the checkpoint's folder;
    of files in a flat folder that one, and `name` tells them apart.
    """

    step: int
    name: str
    path: str
    reason: str
    unit: Unit = "step"


@dataclass(frozen=True, slots=True)
class CheckpointCompleted:
    """A checkpoint is whole.

    `component` is the trained folder ("unet", "transformer", ...) of a full one, "" for one in a
    single file and for all else; `digest` identifies the weights by content. The base model
    without a checkpoint is one, too: `kind` "base", step 0, no files, named by its digest.
    """

    step: int
    name: str
    path: str
    kind: CheckpointKind
    component: str
    files: tuple[WeightFile, ...]
    digest: str
    unit: Unit = "step"


@dataclass(frozen=True, slots=True)
class CheckpointDiscarded:
    """A checkpoint will not be evaluated; `reason` is what a user can act on."""

    step: int
    name: str
    path: str
    kind: DiscardKind
    reason: str
    unit: Unit = "step"


@dataclass(frozen=True, slots=True)
class EvaluationStarted:
    """A checkpoint was taken up; `environment`: versions, device, models; see Reference."""

    evaluation: str
    checkpoint: str
    step: int
    digest: str
    protocol: str
    environment: dict[str, str]
    reference: Reference | None = None


@dataclass(frozen=True, slots=True)
class ImagesScored:
    """A batch is done and need not be done again."""

    evaluation: str
    images: tuple[ImageScore, ...]


@dataclass(frozen=True, slots=True)
class EvaluationCompleted:
    """All images are scored; `truncated` prompts were longer than the scorer can read.

    Of the last attempt: how many `images` it made, where its `seconds` went, and which `batch_size`
    it found best (see Finished). `scores` summarise those of each scorer, "" is the one that
    decides. By its scores `categories` summarise the prompts of each, `against_base` compares with
    the base model alone, `against_best` with the highest mean of an earlier step, corrected for
    having picked that where its `picked` says so. `made` adds to the environment what was known
    only in the end. `decision` is how it compares with its reference, `estimate` that its means are
    such, `answered` what the answers to the prompts' questions come to, by scorer.
    """

    evaluation: str
    scores: dict[str, Summary]
    truncated: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    images: int = 0
    batch_size: int = 0
    categories: dict[str, Summary] = field(default_factory=dict)
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    made: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    estimate: Estimate | None = None
    answered: dict[str, Answered] = field(default_factory=dict)

    @property
    def clip(self) -> Summary:
        """By the scorer that decides, under the name by which trackers show it."""
        return self.scores[""]


@dataclass(frozen=True, slots=True)
class ImagesDeleted:
    """All images of an evaluation so far are deleted, or about to be: nobody looks for them.

    `reason` is the setting that has it so, or what became of the evaluation. The scores stay.
    """

    evaluation: str
    reason: str


@dataclass(frozen=True, slots=True)
class AdviceGiven:
    """What the scores up to this evaluation suggest; in a protocol each `kind` is given once.

    Only "regressed" comes again, when the training fell again. `text` says in one sentence what was
    seen, how sure that is, and what people do. `scorer` is the further one by whose
    scores, "" for the one that decides.
    """

    evaluation: str
    step: int
    kind: AdviceKind
    text: str
    scorer: str = ""
    unit: Unit = "step"


@dataclass(frozen=True, slots=True)
class DestinationChanged:
    """What a tracker or a channel gets goes to `place` from here on, and everything is owed there.

    `place` holds all that decides where that is, and no secret. The first one of a log says where
    it went before, too.
    """

    kind: ReceiverKind
    name: str
    place: str


@dataclass(frozen=True, slots=True)
class AdviceSent:
    """A channel took advice ("webhook", "apprise"); each is named EVALUATION/KIND(/SCORER).

    In the first logs `destination` and `protocol` are "", here and in three below: those in use.
    """

    channel: str
    advice: tuple[str, ...]
    destination: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class AdviceNotSent:
    """A channel took nothing; no `retry_at` means that it waits for a changed setting."""

    channel: str
    reason: str
    attempt: int
    retry_at: datetime | None = None
    destination: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationFailed:
    """An attempt ended without a result; no `retry_at` means that it is given up."""

    evaluation: str
    kind: FailureKind
    reason: str
    attempt: int
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EvaluationReopened:
    """An evaluation that was given up is to be tried again from `time` on."""

    evaluation: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Published:
    """A tracker was read and shows these evaluations of one protocol at its destination.

    `where` is for a person to open. Those that it has shown at another destination before are told
    as `again`.
    """

    tracker: str
    evaluations: tuple[str, ...]
    where: str
    destination: str = ""
    protocol: str = ""
    again: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoLongerShown:
    """A tracker was read and lacks evaluations that it has shown at this destination."""

    tracker: str
    evaluations: tuple[str, ...]
    destination: str
    protocol: str


@dataclass(frozen=True, slots=True)
class PublishFailed:
    """A tracker took nothing; no `retry_at` means that it waits for a changed setting."""

    tracker: str
    reason: str
    attempt: int
    retry_at: datetime | None = None
    destination: str = ""
    protocol: str = ""


Event = (
    RunStarted
    | SettingsChanged
    | ProtocolDefined
    | ProtocolContinued
    | ModelsChecked
    | OutputDirChecked
    | OutputDirMoved
    | CheckpointFound
    | CheckpointCompleted
    | CheckpointDiscarded
    | EvaluationStarted
    | LossMeasured
    | LossNotMeasured
    | ImagesScored
    | EvaluationOutdone
    | EvaluationCompleted
    | ImagesDeleted
    | ScorerAdded
    | ImagesRescored
    | EvaluationRescored
    | AdviceGiven
    | DestinationChanged
    | AdviceSent
    | AdviceNotSent
    | EvaluationFailed
    | EvaluationReopened
    | Published
    | NoLongerShown
    | PublishFailed
    | Voted
    | EvaluationImported
    | MoreShown
)

TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in Event.__args__}
