"""One checkpoint in, replies out: models stay loaded from one evaluation to the next."""

from __future__ import annotations

import logging
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from clipwatch.evaluator.clip import Scorer
from clipwatch.evaluator.device import bound_memory, find_device
from clipwatch.evaluator.embeddings_store import Store
from clipwatch.evaluator.failures import EvaluationError, failing_as, failure_of
from clipwatch.evaluator.images import image_name, save_image
from clipwatch.evaluator.messages import (
    Evaluate,
    Failed,
    Finished,
    Loaded,
    Message,
    Scored,
    Working,
)
from clipwatch.evaluator.phases import Phases
from clipwatch.evaluator.pipeline import Generator, free_memory
from clipwatch.evaluator.quiet import quiet
from clipwatch.evaluator.weights import verify
from clipwatch.events import ImageScore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clipwatch.protocol import Prompt

_log = logging.getLogger(__name__)

_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft")
_WORKING_SECONDS: Final = 1.0

Task = tuple["Prompt", int, int]


class Evaluator:
    """Evaluates checkpoints one after the other, in the calling thread."""

    def __init__(self) -> None:
        quiet()
        self._device = ("", "")  # as asked for, as found
        self._store = Store(None)
        self._bound_gib: float | None = None
        self._scorer: Scorer | None = None
        self._generator: Generator | None = None
        self._send: Callable[[Message], None] = lambda _: None
        self._said_working = 0.0

    def evaluate(self, request: Evaluate, send: Callable[[Message], None]) -> None:
        """Evaluate one checkpoint: `send` gets Loaded, Scored..., and Finished or Failed.

        In between it gets Working, as long as the models compute. Nothing is raised but what `send`
        raises.
        """
        started = time.monotonic()
        self._send, self._said_working = send, started
        phases = Phases()
        try:
            with phases.phase("load"):
                scorer, generator = self._load(request)
            send(Loaded(self._environment(request, scorer, generator)))
            done = set(request.done)
            tasks = [
                task for task in request.protocol.images() if (task[0].id, task[1]) not in done
            ]
            for batch in _batches(tasks, request.batch_size):
                send(Scored(_score(batch, request, scorer, generator, phases)))
            _verify_unless_gone(request)
            truncated = scorer.truncated(prompt.text for prompt in request.protocol.prompts)
        except BrokenPipeError:  # nobody listens
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon has to hear of it
            failed = self._with_bound(failure_of(error))
            if failed.kind == "internal":
                _log.exception("evaluation of %s failed", request.path)
        else:
            send(Finished(truncated, time.monotonic() - started, phases.seconds))
            return
        free_memory()  # only here, where the error and what its frames hold is let go
        send(failed)

    def _load(self, request: Evaluate) -> tuple[Scorer, Generator]:
        """Have both models and the checkpoint in memory; what is there already stays."""
        protocol = request.protocol
        folder = Path(request.cache_dir) if request.cache_dir else None
        if self._device[0] != request.device or self._store.folder != folder:
            self._store = Store(folder)
            self._scorer = self._generator = None
            found = find_device(request.device)
            self._bound_gib = bound_memory(found, request.memory_gib, share=request.share)
            self._device = (request.device, found)
        device = self._device[1]
        if self._scorer is None or self._scorer.identity != (
            protocol.scorer,
            protocol.scorer_revision,
            device,
        ):
            self._scorer = None
            free_memory()
            self._scorer = Scorer(protocol.scorer, protocol.scorer_revision, device, self._store)
        if self._generator is None or not self._generator.serves(protocol, device):
            self._generator = None
            free_memory()
            self._generator = Generator(protocol, device, self._working, self._store)
        self._generator.load(request)
        return self._scorer, self._generator

    def _with_bound(self, failed: Failed) -> Failed:
        """Say in a failure for lack of a GPU's memory that it is our own bound that was met."""
        if self._bound_gib is None or "out of memory" not in failed.reason.lower():
            return failed
        bound = f"clipwatch may take {self._bound_gib:.1f} GiB of this GPU (gpu_memory_gib)"
        return Failed(failed.kind, f"{failed.reason}; {bound}")

    def _working(self) -> None:
        now = time.monotonic()
        if now - self._said_working >= _WORKING_SECONDS:
            self._said_working = now
            self._send(Working())

    def _environment(
        self, request: Evaluate, scorer: Scorer, generator: Generator
    ) -> dict[str, str]:
        """Say what else makes the numbers: versions, device, the Hub's commits."""
        device = self._device[1]
        name = (
            torch.cuda.get_device_name(device)
            if device.startswith("cuda")
            else platform.processor() or platform.machine()
        )
        if request.gpu:  # it is the only one in sight: its number says nothing
            device = device.partition(":")[0]
        found = {package: version(package) for package in _PACKAGES} | {
            "device": f"{device} ({name})",
            "gpu": request.gpu,
            "dtype": request.protocol.dtype,
            "attention": request.attention or "native",
            "base_commit": generator.commit,
            "scorer_commit": scorer.commit,
        }
        return {key: text for key, text in found.items() if text}


def _score(
    batch: list[Task], request: Evaluate, scorer: Scorer, generator: Generator, phases: Phases
) -> tuple[ImageScore, ...]:
    """Generate, save and score one batch; the pixels saved are the pixels scored."""
    prompts = [prompt.text for prompt, _, _ in batch]
    # the same pixels for the same noise, in full float32: TF32 would decide the third digit
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        # both end with numbers on the host: nothing of one is still computed in the other's time
        with phases.phase("generate"):
            images = generator.generate(prompts, [seed for _, _, seed in batch], request.protocol)
        with phases.phase("score"):
            scores = scorer.score(images, prompts)
    found = []
    for (prompt, index, seed), image, score in zip(batch, images, scores, strict=True):
        if not math.isfinite(score):
            raise EvaluationError(
                "scores",
                f"the score of prompt {prompt.id!r} is {score}; check the scorer's weights",
            )
        name = None
        if request.images_dir is not None:
            name = image_name(prompt.id, index)
            with (
                phases.phase("save"),
                failing_as("internal", f"cannot save images in {request.images_dir}"),
            ):
                save_image(image, Path(request.images_dir) / name)
        found.append(ImageScore(prompt.id, index, seed, score, name))
    return tuple(found)


def _batches(tasks: list[Task], size: int) -> Iterator[list[Task]]:
    for start in range(0, len(tasks), max(size, 1)):
        yield tasks[start : start + max(size, 1)]


def _verify_unless_gone(request: Evaluate) -> None:
    """Refuse a checkpoint that was written again meanwhile; one rotated away was read in full."""
    try:
        verify(Path(request.path), request.files)
    except EvaluationError as error:
        if error.kind != "vanished":
            raise
