"""What daemon and evaluator say to each other: one JSON object a line, over the child's pipes."""

from __future__ import annotations

import msgspec

from clipwatch.events import ImageScore, WeightFile
from clipwatch.protocol import EvaluationProtocol


class Evaluate(msgspec.Struct, frozen=True, tag=True):
    """To the child: evaluate one checkpoint; it answers Loaded, Scored..., Finished or Failed.

    Attributes:
        path: The checkpoint's folder.
        kind: "lora", "full" or "pipeline" (see CheckpointCompleted).
        component: The trained component of a full checkpoint, else "".
        files: Its weights as they were found; a change of any of them spoils the evaluation.
        done: (prompt id, image index) of the images that an earlier attempt scored already.
        images_dir: Folder for the images (made when needed), or None to keep none.
        device: "cpu", "cuda", "cuda:N", "mps"; "cuda" takes the one with the most free memory.
        batch_size: Images generated at once.
        attention: "" for the pipeline's default, or a name of diffusers' attention backends.
    """

    path: str
    kind: str
    component: str
    files: tuple[WeightFile, ...]
    protocol: EvaluationProtocol
    done: tuple[tuple[str, int], ...]
    images_dir: str | None
    device: str
    batch_size: int
    attention: str = ""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From the child: models and checkpoint are loaded; versions, device, resolved revisions."""

    environment: dict[str, str]


class Scored(msgspec.Struct, frozen=True, tag=True):
    """From the child: a batch of images is generated, saved and scored."""

    images: tuple[ImageScore, ...]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """From the child: all images are scored; `truncated` prompts exceeded the scorer's length."""

    truncated: int
    seconds: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From the child: no result.

    `kind` is "memory" (try a smaller batch), "vanished" or "changed" (the checkpoint did),
    "weights" (they do not fit or were not all applied), "model" (base model or scorer cannot be
    loaded), "scores" (not finite), "killed" (said by the daemon) or "internal".
    """

    kind: str
    reason: str


Request = Evaluate
Reply = Loaded | Scored | Finished | Failed
