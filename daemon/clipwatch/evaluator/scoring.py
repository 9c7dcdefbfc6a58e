"""What becomes of a batch of images: scored by every scorer, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clipwatch.domain.events import ImageScore
from clipwatch.evaluator.failures import cause, failing_as
from clipwatch.evaluator.generation.noise import Task
from clipwatch.evaluator.generation.pipeline import free_memory
from clipwatch.evaluator.images import image_name, pixels_digest, save_image
from clipwatch.evaluator.looks import looks
from clipwatch.evaluator.scorers.base import Measured, Scorer, checked, measured
from clipwatch.evaluator.tensors import computing
from clipwatch.models.scorers import scale_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipwatch.evaluator.phases import Phases
    from clipwatch.executors.messages import Evaluate

Scorers = dict[str, Scorer]
"""By name; the one that decides is called ""."""

_Found = tuple[dict[str, list[Measured]], list[str], torch.Tensor]
"""What was measured by scorer, the looks, and the pixels in host memory."""


class Scoring:
    """Scores and saves the images of a request, in part beside the generation of the next ones.

    On a GPU both are done there, on a stream of their own. Elsewhere only saving is: two threads of
    torch take twice the cores that we were given, or fight for them.

    Where it lacks memory, others let go of it first; `let_go` says whether there was any. On a CPU,
    where it takes long, `working` is called again and again meanwhile.
    """

    def __init__(
        self,
        request: Evaluate,
        scorers: Scorers,
        device: str,
        phases: Phases,
        let_go: Callable[[], bool],
        working: Callable[[], None],
    ) -> None:
        self._folder = None if request.images_dir is None else Path(request.images_dir)
        self._form = request.image_format
        self._done = set(request.done)
        self._scorers = scorers
        self._scales = {it.name: scale_of(it) for it in request.protocol.scorers}
        self._device = device
        self._phases = phases
        self._let_go = let_go
        self._working = working
        self._stream: torch.cuda.Stream | None = None
        if device.startswith("cuda"):
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(
        self, batch: list[Task], images: torch.Tensor
    ) -> Callable[[], tuple[ImageScore, ...]]:
        """Return what is left to do for a batch that was just generated, in another thread."""
        if self._stream is None:
            with computing(self._working):
                found = self._measure(batch, images)
            return lambda: self._keep(batch, *found)
        made = torch.cuda.current_stream(self._device).record_event()

        def rest(stream: torch.cuda.Stream = self._stream) -> tuple[ImageScore, ...]:
            with torch.cuda.stream(stream):
                stream.wait_event(made)
                images.record_stream(stream)  # their memory is not given away before
                found = self._measure(batch, images)
            return self._keep(batch, *found)

        return rest

    def _measure(self, batch: list[Task], images: torch.Tensor) -> _Found:
        while True:
            try:
                return self._measured(batch, images)
            except Exception as error:
                if cause(error) != "memory" or not self._let_go():
                    raise
            free_memory()  # only here, where the error and what its frames hold is let go

    def _measured(self, batch: list[Task], images: torch.Tensor) -> _Found:
        prompts = [prompt for prompt, _, _ in batch]
        with self._phases.phase("score"):
            found = {
                name: measured(name, it, images, prompts) for name, it in self._scorers.items()
            }
            return found, looks(images), images.cpu()

    def _keep(
        self,
        batch: list[Task],
        measures: dict[str, list[Measured]],
        seen: list[str],
        pixels: torch.Tensor,
    ) -> tuple[ImageScore, ...]:
        """Save the images that were scored, each of which has a number from every scorer."""
        found = []
        for place, (prompt, index, seed) in enumerate(batch):
            if (prompt.id, index) in self._done:  # made again for those that follow it
                continue
            scores: dict[str, float] = {}
            answers: dict[str, tuple[float, ...]] = {}
            for name, its in measures.items():
                score, answered = its[place]
                for it in (score, *answered):
                    checked(it, name, self._scales[name], prompt.id)
                scores[name] = score
                if answered:
                    answers[name] = answered
            image = self._save(pixels[place], image_name(prompt.id, index, self._form))
            digest = pixels_digest(pixels[place]) if image else ""
            told = (scores, image, seen[place], digest, answers)
            found.append(ImageScore(prompt.id, index, seed, *told))
        return tuple(found)

    def _save(self, pixels: torch.Tensor, name: str) -> str | None:
        if self._folder is None:
            return None
        what = f"cannot save images in {self._folder}"
        with self._phases.phase("save"), failing_as("internal", what):
            save_image(pixels, self._folder / name)
        return name
