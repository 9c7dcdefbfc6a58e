"""Scorers that hold an image against the images of a folder: how like all, how near to one."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers.copies import copies_of, nearest_others, nearness, spread
from clipwatch.evaluator.scorers.encoder import BATCH, ImageEncoder, pixels_of, read_picture
from clipwatch.evaluator.store import made_by, tensors_of
from clipwatch.kit.errors import ClipwatchError
from clipwatch.models.files import Unfit
from clipwatch.models.likeness import IMAGES, told
from clipwatch.models.pictures import images_in
from clipwatch.statistics.scale import Near

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipwatch.domain.protocol import ScorerSpec
    from clipwatch.evaluator.store import Store

_DIGITS: Final = 16
"""Of a scorer's digest so many are the model's, the rest its images' (identity.scorer_digest)."""


class Likeness:
    """How like a subject an image is: the mean of its cosines to all images of the subject.

    With DINO or a CLIP it is what the DreamBooth paper (Ruiz et al. 2023) reports as DINO and
    CLIP-I, an image at a time. What was found of the folder is kept on disk.

    Args:
        spec: Names the model and the folder.
        device: A torch device.
        store: Where features are kept.
        digest: Identifies the content of all files; "" when that is unknown.

    Raises:
        EvaluationError: The model or an image cannot be read ("model").
    """

    told = ""

    def __init__(self, spec: ScorerSpec, device: str, store: Store, digest: str) -> None:
        self._encoder = ImageEncoder(spec, device, digest[:_DIGITS])
        self.commit = self._encoder.commit
        key = json.dumps([made_by(device), type(self).__name__, digest], sort_keys=True)
        known = store.read(key) if digest else None
        if known is None:
            # as images are scored: TF32 would decide the third digit
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ):
                known = [*self._measured(_pictures(spec))]
            if digest:
                store.write(key, known)
        self._theirs, *self._rest = (tensors_of(it)[0] for it in known)
        self._theirs = self._theirs.to(device)

    def prepare(self, prompts: Sequence[str]) -> int:  # noqa: ARG002 - it reads none
        """Read no prompt, so none is too long."""
        return 0

    @torch.inference_mode()
    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:  # noqa: ARG002 - as above
        """Return a cosine, -1..1, for each image.

        Args:
            images: (n, height, width, 3) uint8 on any device.
            prompts: n texts, which do not matter.
        """
        cosines = self._encoder.features(images) @ self._theirs.T
        return [float(it) for it in self._of(cosines).clamp(-1, 1).tolist()]

    def _of(self, cosines: torch.Tensor) -> torch.Tensor:
        """Return (n,) from (n, images of the folder)."""
        return cosines.mean(dim=1)

    def _measured(self, paths: Sequence[Path]) -> list[torch.Tensor]:
        """Return what is kept of the folder: first (images, dim), in host memory."""
        parts = (paths[first : first + BATCH] for first in range(0, len(paths), BATCH))
        read = ([pixels_of(read_picture(it)) for it in part] for part in parts)
        return [torch.cat([self._encoder.of_each(it).cpu() for it in read])]


class Copied(Likeness):
    """How near an image is to one that was trained on: its highest cosine to one of them."""

    @property
    def told(self) -> str:  # type: ignore[override]
        """From where on an image is too near, see `models.likeness.scale_of_copies`."""
        bound, usual, of, reached = self._rest[0].tolist()
        return told(Near(bound, int(usual), int(of), reached))

    def _of(self, cosines: torch.Tensor) -> torch.Tensor:
        return cosines.max(dim=1).values

    def _measured(self, paths: Sequence[Path]) -> list[torch.Tensor]:
        (theirs,) = super()._measured(paths)
        copies: list[float] = []
        for place in spread(len(paths)):
            made = copies_of(read_picture(paths[place]))
            features = self._encoder.of_each([pixels_of(it) for it in made])
            copies += (features.cpu() @ theirs[place]).tolist()
        found = nearness(copies, nearest_others(theirs))
        return [theirs, torch.tensor(astuple(found), dtype=torch.float64)]


def _pictures(spec: ScorerSpec) -> list[Path]:
    named = dict(spec.options).get(IMAGES)
    if not named:
        fix = f"write ?{IMAGES}=FOLDER behind the model"
        raise EvaluationError("model", f"scorer '{spec}' names no folder of images", fix=fix)
    try:
        return images_in(Path(named))
    except (OSError, Unfit, ClipwatchError) as error:
        raise EvaluationError("model", f"scorer '{spec}': {error}") from error
