"""Kept images scored by one more scorer; nothing is generated, and no pipeline is loaded."""

from __future__ import annotations

import io
import logging
import time
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image

from clipwatch.evaluator.failures import EvaluationError, failure_of
from clipwatch.evaluator.images import pixels_digest
from clipwatch.evaluator.quiet import quiet_scorers
from clipwatch.evaluator.scorers.base import checked, make
from clipwatch.evaluator.scorers.files import fetch
from clipwatch.evaluator.store import Store
from clipwatch.evaluator.tensors import computing
from clipwatch.evaluator.torch_device import bound_memory, find_device
from clipwatch.executors.messages import Finished, Kept, Loaded, Reply, Rescore, Scored, Working
from clipwatch.kit.ownfiles import read_own
from clipwatch.models.identity import Identities, ModelError
from clipwatch.models.kinds import FILES_KEY, commit_key, told_key
from clipwatch.models.scorers import scale_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipwatch.domain.events import ImageScore
    from clipwatch.evaluator.scorers.base import Scorer

_log = logging.getLogger(__name__)

BATCH: Final = 16
"""Images that are read, scored and reported at once."""


class Rescorer:
    """Scores the images of one evaluation after the other; the scorer stays loaded."""

    def __init__(self) -> None:
        quiet_scorers()
        self._device = ""
        self._loaded: tuple[object, Scorer, str] | None = None  # what it is, itself, its files

    def rescore(self, request: Rescore, send: Callable[[Reply], Kept | None]) -> None:
        """Answer one request; nothing is raised but what `send` raises."""
        try:
            finished = self._run(request, send)
        except BrokenPipeError:  # nobody listens
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked has to hear of it
            failed = failure_of(error)
            if failed.kind == "internal":
                _log.exception("scoring of %s failed", request.folder)
            send(failed)
        else:
            send(finished)

    def _run(self, request: Rescore, send: Callable[[Reply], Kept | None]) -> Finished:
        started = time.monotonic()
        send(Working(f"loading scorer {request.scorer}"))
        scorer, files = self._scorer(request)
        name, scale = request.scorer.name, scale_of(request.scorer)
        environment = {
            **{package: version(package) for package in ("torch", "transformers")},
            "device": self._device,
            FILES_KEY: files,
            commit_key(name): scorer.commit,
            told_key(name): scorer.told,
        }
        send(Loaded({key: text for key, text in environment.items() if text}))
        truncated = scorer.prepare(list(request.texts.values()))
        # as in an evaluation: TF32 would decide the third digit
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            for first in range(0, len(request.images), BATCH):
                send(Working())
                batch = request.images[first : first + BATCH]
                read = [(it, found) for it in batch if (found := _read(request, it)) is not None]
                if not read:
                    continue
                images = [it for it, _ in read]
                pixels = torch.stack([found for _, found in read]).to(self._device)
                with computing(partial(send, Working())):
                    scores = scorer.score(pixels, [request.texts[it.prompt_id] for it in images])
                if len(scores) != len(images):
                    what = f"scorer {name!r} gave {len(scores)} scores for {len(images)} images"
                    raise EvaluationError("scores", what)
                scored = (
                    replace(it, scores={name: checked(score, name, scale, it.prompt_id)})
                    for it, score in zip(images, scores, strict=True)
                )
                send(Scored(tuple(scored)))
        return Finished(truncated, time.monotonic() - started)

    def _scorer(self, request: Rescore) -> tuple[Scorer, str]:
        """Return the scorer, and what identifies its files; it stays loaded."""
        asked = (request.scorer, request.device, request.cache_dir)
        if self._loaded is None or self._loaded[0] != asked:
            self._loaded = None
            self._device = find_device(request.device)
            bound_memory(self._device, request.memory_gib, share=request.share)
            fetch(request.scorer)
            store = Store(Path(request.cache_dir) if request.cache_dir else None)
            before = _identity(request)
            scorer = make(request.scorer, self._device, store, before)
            if _identity(request) != before:
                raise EvaluationError("model", "files of the scorer changed while it was loaded")
            self._loaded = (asked, scorer, before)
        return self._loaded[1:]


def _identity(request: Rescore) -> str:
    try:
        return Identities().of_scorer(request.scorer)
    except ModelError as error:
        raise EvaluationError("model", str(error)) from error


def _read(request: Rescore, image: ImageScore) -> torch.Tensor | None:
    """Return (height, width, 3) uint8; None for what is gone, or is not what was scored."""
    try:
        with Image.open(io.BytesIO(read_own(Path(request.folder, str(image.image))))) as file:
            if file.size != tuple(request.size):
                return None
            found = torch.from_numpy(np.array(file.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    same = image.pixels in ("", pixels_digest(found))
    return found if same else None
