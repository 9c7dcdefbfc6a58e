"""How well the text that a prompt quotes stands in the picture: a model is asked what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from PIL import Image
from transformers import GenerationConfig

from clipwatch.evaluator.scorers.vision_language import VisionLanguage
from clipwatch.models.quoted import quoted, written

if TYPE_CHECKING:
    from collections.abc import Sequence

READ: Final = (
    "Write down all text that stands in this image, exactly as it is written and nothing else."
)
"""The model is not told what text was asked for, or it would read that."""

LONGEST: Final = 128
"""Tokens that are read of an image."""


class Reading(VisionLanguage):
    """How well the text that its prompt quotes stands in an image."""

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:
        """Return 0..1 for each image with the prompt of the same place (`models.quoted.written`).

        Of several texts the mean; 0 for a prompt that quotes none, which settings refuse.

        Args:
            images: (n, height, width, 3) uint8 on any device.
            prompts: n texts.
        """
        return [
            self._found(image, quoted(prompt))
            for image, prompt in zip(images, prompts, strict=True)
        ]

    def _found(self, image: torch.Tensor, wanted: Sequence[str]) -> float:
        if not wanted:
            return 0.0
        read = self.read(image)
        return sum(written(it, read) for it in wanted) / len(wanted)

    @torch.inference_mode()
    def read(self, image: torch.Tensor) -> str:
        """Return what the model reads in (height, width, 3) uint8, its likeliest token each time.

        At most LONGEST tokens; the sampling that the model's folder asks for is left out.
        """
        inputs = self._inputs(Image.fromarray(image.cpu().numpy()), READ)
        usual = self._model.generation_config
        how = GenerationConfig(
            max_new_tokens=LONGEST,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=usual.eos_token_id,
            pad_token_id=usual.pad_token_id,
        )
        asked = inputs["input_ids"].shape[1]
        made = self._model.generate(**inputs, generation_config=how)
        return str(self._processor.tokenizer.decode(made[0, asked:], skip_special_tokens=True))
