"""Losses of a checkpoint on images that are always the same, see domain.losses."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image, ImageOps

from clipwatch.domain.losses import Example, LossProtocol
from clipwatch.evaluator.failures import EvaluationError, cause, failing_as, one_line
from clipwatch.evaluator.generation import denoising
from clipwatch.evaluator.generation.pipeline import free_memory
from clipwatch.evaluator.images import upright
from clipwatch.executors.messages import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clipwatch.domain.losses import Captioned, LossSets
    from clipwatch.domain.protocol import EvaluationProtocol
    from clipwatch.evaluator.generation.pipeline import Generator

BATCH: Final = 4
"""Images that are predicted at once, at most: what pictures are made of takes more memory."""

LARGEST: Final = 256 << 20
"""Bytes of an image's file."""

_Picture = tuple[Example, torch.Tensor]
"""An image as it was read, and its pixels: (3, height, width) float32 in -1..1."""


class Latents:
    """The latents of the images, kept from one checkpoint to the next: few train a VAE.

    One image is encoded anew each time; where that comes out as before to the bit, all others do.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, torch.Size], torch.Tensor] = {}

    def of(self, vae: Any, pictures: Sequence[_Picture], device: str) -> list[torch.Tensor]:
        """Return the latents of each picture: (channels, height, width) float32 in host memory.

        Raises:
            EvaluationError: They are not finite ("scores").
        """
        found: dict[tuple[str, torch.Size], torch.Tensor] = {}
        same = False  # the VAE, as far as is known
        for example, pixels in pictures:
            key = (example.image, pixels.shape)
            before = self._known.get(key)
            if before is not None and same:
                found[key] = before
                continue
            found[key] = denoising.encoded(vae, pixels[None], device)[0]
            same = before is not None and torch.equal(before, found[key])
            if before is not None and not same:
                self._known = {}
        self._known = found
        return [found[example.image, pixels.shape] for example, pixels in pictures]


def measure(
    sets: LossSets,
    protocol: EvaluationProtocol,
    generator: Generator,
    latents: Latents,
    let_go: Callable[[], bool],
) -> Measured:
    """Return the losses of the weights that a generator holds, or why there are none.

    What is wrong with the images, or a family without a loss, ends no evaluation. Where memory is
    short, others let go of it first; `let_go` says whether there was any.

    Raises:
        BrokenPipeError: Nobody listens.
        Exception: The device refuses all work from here on.
    """
    while True:
        try:
            return _measured(sets, protocol, generator, latents)
        except BrokenPipeError:
            raise
        except Exception as error:
            if cause(error) == "internal":
                raise
            problem, short = one_line(error), cause(error) == "memory"
        finally:
            generator.read([prompt.text for prompt in protocol.prompts])
        free_memory()  # only here, where the error and what its frames hold is let go
        if not (short and let_go()):
            return Measured(problem=problem)


def _measured(
    sets: LossSets, protocol: EvaluationProtocol, generator: Generator, latents: Latents
) -> Measured:
    started = time.monotonic()
    generator.read([it.caption for it in (*sets.held, *sets.trained)])
    with generator.ready(protocol, protocol.adapter_strength) as pipeline:
        size = denoising.size_of(pipeline, protocol.width, protocol.height)
        held, trained = ([_read(it, size) for it in its] for its in (sets.held, sets.trained))
        _check_apart(sets, held, trained)
        own, theirs = (tuple(example for example, _ in its) for its in (held, trained))
        plan = LossProtocol(own, theirs, protocol.seed, *size)
        device = str(pipeline._execution_device)  # noqa: SLF001 - as its own call
        known = latents.of(pipeline.vae, [*held, *trained], device)
        rows = _rows(pipeline, protocol, plan, known)
    ends = rows[: len(held)], rows[len(held) :]
    return Measured(plan, *ends, seconds=time.monotonic() - started)


def _rows(
    pipeline: Any, protocol: EvaluationProtocol, plan: LossProtocol, latents: Sequence[torch.Tensor]
) -> tuple[tuple[float, ...], ...]:
    """Return the losses of all images, in batches of as many as fit."""
    examples = (*plan.held, *plan.trained)
    rows: list[tuple[float, ...]] = []
    size = BATCH
    while len(rows) < len(examples):
        batch = slice(len(rows), len(rows) + size)
        noise = [
            torch.stack([_drawn(seed, latents[0].shape) for seed in column])
            for column in zip(*map(plan.seeds, examples[batch]), strict=True)
        ]
        captions, own = [it.caption for it in examples[batch]], torch.stack([*latents[batch]])
        try:
            found = denoising.losses(pipeline, protocol, captions, own, noise, plan.times)
        except Exception as error:
            if cause(error) != "memory" or size == 1:
                raise
            size //= 2
        else:
            rows += map(tuple, found)
            continue
        free_memory()  # only here, where the error and what its frames hold is let go
    return tuple(rows)


def _drawn(seed: int, shape: torch.Size) -> torch.Tensor:
    """Return noise that no device decides."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def _read(image: Captioned, size: tuple[int, int]) -> _Picture:
    """Return an image, scaled until it covers the size, its middle cut out.

    Raises:
        EvaluationError: It cannot be read ("model").
    """
    what = f"{image.path} cannot be read as an image"
    with failing_as("model", what, fix="mend it, or take it away"):
        with Path(image.path).open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        cut = ImageOps.fit(upright(data), size, Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 127.5 - 1.0
    return Example(hashlib.sha256(data).hexdigest()[:16], image.caption), pixels


def _check_apart(sets: LossSets, held: Sequence[_Picture], trained: Sequence[_Picture]) -> None:
    """Make sure that no image is held out and trained on as well.

    Raises:
        EvaluationError: One is ("model").
    """
    own = {example.image for example, _ in held}
    for it, (example, _) in zip(sets.trained, trained, strict=True):
        if example.image in own:
            reason = f"{it.path} is held out as well, under another name"
            raise EvaluationError("model", reason, fix="keep holdout and train_sample apart")
