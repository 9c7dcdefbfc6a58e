"""What daemon and evaluator say to each other: one JSON object a line, over the child's pipes."""

from __future__ import annotations

import msgspec

from clipwatch.domain.events import ImageScore, WeightFile
from clipwatch.domain.kinds import CheckpointKind, FailureKind, ImageFormat
from clipwatch.domain.losses import LossProtocol, LossSets, Rows
from clipwatch.domain.protocol import EvaluationProtocol, ScorerSpec


class Evaluate(msgspec.Struct, frozen=True, tag=True):
    """To the child: evaluate one checkpoint; it answers Loaded, Scored..., Finished or Failed.

    If it is asked for losses it answers Measured after Loaded, whatever comes of them.

    Attributes:
        path: The checkpoint's folder.
        kind: As in CheckpointCompleted.
        component: The trained folder of a full checkpoint; "" for one in a single file, and else.
        files: Its weights as they were found; a change of any of them spoils the evaluation.
        done: (prompt id, image index) of the images that an earlier attempt scored already.
        images_dir: Folder for the images (made when needed), or None to keep none.
        device: "cpu", "cuda", "cuda:N", "mps"; "cuda" takes the one with the most free memory.
        batch_size: Images generated at once; 0 for what is fastest, if `batch_limit` is not.
        batch_limit: The most that may be tried, 0 for `batch_size` alone. With both, `batch_size`
            was found fastest before.
        stratified: Prompts come in an order of which every beginning speaks for the whole.
        attention: "" for the pipeline's default, or a name of diffusers' attention backends.
        gpu: UUID of the only GPU that the child may see, the same in all that it is asked; "" for
            those that the environment shows.
        memory_gib: The most of a GPU's memory to take, None for what fits `share`.
        share: Others compute on the GPU: half of what is free at the start has to do.
        image_format: How images are written.
        losses: Images whose loss is to be measured first, None for no loss.
        cache_dir: Folder in which encoded prompts are kept, or None to keep them in memory alone.
    """

    path: str
    kind: CheckpointKind
    component: str
    files: tuple[WeightFile, ...]
    protocol: EvaluationProtocol
    done: tuple[tuple[str, int], ...]
    images_dir: str | None
    device: str
    batch_size: int
    attention: str = ""
    gpu: str = ""
    memory_gib: float | None = None
    share: bool = False
    cache_dir: str | None = None
    batch_limit: int = 0
    stratified: bool = False
    image_format: ImageFormat = "png"
    losses: LossSets | None = None


class Rescore(msgspec.Struct, frozen=True, tag=True):
    """To the child: score kept images by one more scorer, generating nothing.

    It answers Loaded, Scored..., Finished or Failed. An image that cannot be read, or is not the
    one that was scored, is passed over.

    Attributes:
        scorer: Whose name its scores get.
        folder: In which the images name their files.
        images: As they were scored.
        size: Width and height that each has to have.
        texts: The prompts by their ids.
        device, gpu, memory_gib, share, cache_dir: As in Evaluate.
    """

    scorer: ScorerSpec
    folder: str
    images: tuple[ImageScore, ...]
    size: tuple[int, int]
    texts: dict[str, str]
    device: str
    gpu: str = ""
    memory_gib: float | None = None
    share: bool = False
    cache_dir: str | None = None


class Kept(msgspec.Struct, frozen=True, tag=True):
    """To the child: what it reported last is written down, and it may go on.

    So a kill at any moment costs the batch that is generated and the one that is scored meanwhile.
    `enough`: no more images are needed, and it comes to an end.
    """

    enough: bool = False


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From the child: models and checkpoint are loaded; versions, device, resolved revisions."""

    environment: dict[str, str]


class Measured(msgspec.Struct, frozen=True, tag=True):
    """From the child: the losses on fixed images, or the `problem` for which there are none.

    Attributes:
        protocol: Of which images they are, as these were read; None with a problem.
        held, trained: As in LossMeasured.
        seconds: That it took.
        problem: One line; "" for none.
    """

    protocol: LossProtocol | None = None
    held: Rows = ()
    trained: Rows = ()
    seconds: float = 0.0
    problem: str = ""


class Scored(msgspec.Struct, frozen=True, tag=True):
    """From the child, which then waits for Kept: a batch is generated, saved and scored."""

    images: tuple[ImageScore, ...]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """From the child: all images are scored; `truncated` prompts exceeded the scorer's length.

    `phases` tells where the `seconds` went: "load", "loss" where one was asked for, "generate",
    "score" and "save"; the last two run beside "generate". `batch_size` is the one that was found
    best, 0 while it is looked for or if it was set. `made` tells what may matter and was known only
    in the end: how the VAE decoded.
    """

    truncated: int
    seconds: float
    phases: dict[str, float] = {}
    batch_size: int = 0
    made: dict[str, str] = {}


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From the child: no result. Of an end of its process the daemon says so itself."""

    kind: FailureKind
    reason: str


class Working(msgspec.Struct, frozen=True, tag=True):
    """From the child: it has not come to a stop; at most one a second, not passed on.

    With `doing` it says what begins now, for a person who waits, and is passed on.
    """

    doing: str = ""


Request = Evaluate | Rescore
Reply = Loaded | Measured | Scored | Finished | Failed | Working

BASE, SCORER = "base model", "scorer"


class Fetched(msgspec.Struct, frozen=True, tag=True):
    """A model is here.

    Attributes:
        part: BASE, SCORER, or a component of the pipeline.
        name: As the settings name it.
        folder: Where its files are.
        commit: On the Hub, "" for a local folder.
        size: Bytes of its files.
        new: Bytes of them that were downloaded just now.
    """

    part: str
    name: str
    folder: str
    commit: str
    size: int
    new: int


class Coming(msgspec.Struct, frozen=True, tag=True):
    """A model is on its way: `done` of `total` bytes are here; 0 of 0 before that is known."""

    part: str
    name: str
    done: int = 0
    total: int = 0

    @property
    def text(self) -> str:
        """What is going on, for a person."""
        if not self.total:
            return f"looking for {self.part} {self.name} on the Hub"
        known = f"{self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB"
        return f"downloading {self.part} {self.name}, {known}"


class Missed(msgspec.Struct, frozen=True, tag=True):
    """A model could not be had; the reason is one line."""

    part: str
    name: str
    reason: str


FetchReply = Coming | Fetched | Missed
