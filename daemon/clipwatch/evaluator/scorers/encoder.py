"""Features of images, in float32: of a dual encoder's image tower, or DINO's class token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from clipwatch.evaluator.failures import EvaluationError, failing_as, from_hub
from clipwatch.evaluator.images import upright
from clipwatch.evaluator.scorers.dual_encoder import features
from clipwatch.evaluator.scorers.files import locate, read_config, read_processor
from clipwatch.evaluator.scorers.loading import loaded
from clipwatch.evaluator.scorers.preprocessing import read_preprocessing
from clipwatch.layouts.files import opened
from clipwatch.models.dual_encoders import KINDS
from clipwatch.models.likeness import ENCODERS, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from clipwatch.domain.protocol import ScorerSpec

BATCH: Final = 64


class ImageEncoder:
    """A model that reads images, on one device.

    Args:
        spec: Names the model.
        device: A torch device.
        files: Identifies the content of the model's files; "" when that is unknown.

    Raises:
        EvaluationError: It cannot be loaded or is of a type that does not serve ("model").
    """

    def __init__(self, spec: ScorerSpec, device: str, files: str = "") -> None:
        what = f"scorer {spec.model!r} cannot be loaded"
        with failing_as("model", what):
            with from_hub(what):
                folder, self.commit = locate(spec)
            model_type = str(read_config(folder / "config.json").get("model_type"))
            if reason := refusal(model_type):
                raise EvaluationError("model", f"scorer {spec.model!r} {reason}")
            # the pooler of a ViT reads the class token further, which the DreamBooth paper does not
            how: dict[str, Any] = {"add_pooling_layer": False} if model_type == "vit" else {}
            self._model = loaded(spec.model, folder, device, files, **how)
            self._is_dual = model_type in KINDS
            usual = KINDS[model_type].processor if self._is_dual else ENCODERS[model_type]
            config = self._model.config
            tower = config.vision_config if self._is_dual else config
            side = getattr(tower, "image_size", 0)
            self._preprocess = read_preprocessing(read_processor(folder), usual, side)
        self._device = device

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return (n, dim) float32 of length 1.

        Args:
            images: (n, height, width, 3) uint8 on any device.
        """
        parts = torch.split(images, BATCH)
        return torch.cat([self._of(self._preprocess(it.to(self._device))) for it in parts])

    @torch.inference_mode()
    def of_each(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the same of at most BATCH images (height, width, 3) of any sizes."""
        pixels = [self._preprocess(it[None].to(self._device)) for it in images]
        return self._of({name: torch.cat([it[name] for it in pixels]) for name in pixels[0]})

    def _of(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self._is_dual:
            return features(self._model.get_image_features(**inputs))
        found: Any = self._model(**inputs).last_hidden_state[:, 0]
        return features(found)


def read_picture(path: Path) -> Image.Image:
    """Return an image as trainers read it, see `upright`.

    Raises:
        EvaluationError: It cannot be read, or is none ("model").
    """
    what = f"{path} cannot be read as an image"
    with failing_as("model", what, fix="mend it, or take it away"), opened(path) as file:
        return upright(file.read())


def pixels_of(image: Image.Image) -> torch.Tensor:
    """Return (height, width, 3) uint8."""
    return torch.from_numpy(np.array(image))
