"""Cosines of images with texts: explicit preprocessing, both towers in float32, the whole text."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import torch
from transformers import AutoTokenizer

from clipwatch.evaluator.failures import EvaluationError, failing_as, from_hub
from clipwatch.evaluator.scorers.files import locate, read_config, read_processor
from clipwatch.evaluator.scorers.loading import loaded
from clipwatch.evaluator.scorers.preprocessing import read_preprocessing
from clipwatch.evaluator.store import Store, made_by, tensors_of
from clipwatch.models.dual_encoders import KINDS, Kind, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipwatch.domain.protocol import ScorerSpec

KEPT: Final = 10_000
"""Texts of evaluations before whose features stay on the device: of 1,024 numbers 40 MB."""

_BATCH: Final = 64


class DualEncoder:
    """A dual encoder (CLIP, SigLIP and the like) on one device, always in float32.

    Args:
        spec: Names the model.
        device: A torch device.
        store: Where the features of texts are kept; None keeps them in memory alone.
        digest: Identifies the content of its files; "" when that is unknown.

    Raises:
        EvaluationError: It cannot be loaded or is of a type that cannot score ("model").
    """

    def __init__(
        self,
        spec: ScorerSpec,
        device: str,
        store: Store | None = None,
        digest: str = "",
    ) -> None:
        name = spec.model
        what = f"scorer {name!r} cannot be loaded"
        with failing_as("model", what):
            with from_hub(what):
                folder, self.commit = locate(spec)
            model_type = read_config(folder / "config.json").get("model_type")
            if reason := refusal(model_type):
                raise EvaluationError("model", f"scorer {name!r} {reason}")
            self._kind = KINDS[str(model_type)]
            self._model = loaded(name, folder, device, digest)
            # said outright, or some versions of transformers ask at the terminal
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._preprocess = read_preprocessing(
                read_processor(folder),
                self._kind.processor,
                getattr(self._model.config.vision_config, "image_size", 0),
            )
        self._store = store if digest and store else Store(None)
        self._made_by = {**made_by(device), "scorer": digest}
        self._device = device
        self._length = _length(self._kind, self._model.config.text_config, self._tokenizer)
        self._texts: dict[str, torch.Tensor] = {}

    @property
    def told(self) -> str:
        """By what the model was trained to multiply its cosine, as a text; "" where it tells none.

        CLIP and SigLIP keep its logarithm, ALIGN divides by a temperature.
        """
        if (logarithm := getattr(self._model, "logit_scale", None)) is not None:
            found = logarithm.detach().exp().item()
        elif (temperature := getattr(self._model, "temperature", None)) is not None:
            found = (1 / temperature.detach()).item()
        else:
            return ""
        return f"{found:.6g}" if 0 < found < math.inf else ""

    def prepare(self, prompts: Sequence[str]) -> int:
        """Count the prompts that are longer than the model reads, start and end token included.

        Each is encoded when it is first asked for.
        """
        if len(self._texts) > KEPT:
            self._texts = {it: self._texts[it] for it in prompts if it in self._texts}
        return sum(
            len(self._tokenizer(self._read(prompt), verbose=False).input_ids) > self._length
            for prompt in prompts
        )

    @torch.inference_mode()
    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:
        """Return the cosine, -1..1, of each image with the prompt of the same place.

        It is the cosine for all models: what some were trained to multiply it by and add to it
        (SigLIP) is the same for all images and left out.

        Args:
            images: (n, height, width, 3) uint8 on any device.
            prompts: n texts.

        The text of a prompt that is too long is cut, its end token kept: there CLIP reads the
        whole text's features from, and without it all long prompts would be the same.
        """
        found = torch.cat(
            [
                features(self._model.get_image_features(**self._preprocess(part.to(self._device))))
                for part in torch.split(images, _BATCH)
            ]
        )
        cosines = (found * self._text_features(prompts)).sum(dim=-1)
        return [float(cosine) for cosine in cosines.tolist()]

    def _read(self, text: str) -> str:
        return text.lower() if self._kind.lower else text

    def _text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return (prompts, dim) float32 of length 1; each text is encoded once."""
        for text in prompts:
            if text not in self._texts:
                self._texts[text] = self._text_feature(text).to(self._device)
        return torch.stack([self._texts[text] for text in prompts])

    def _text_feature(self, text: str) -> torch.Tensor:
        """Return (dim,); the text is encoded by itself, so nothing depends on its neighbours."""
        key = json.dumps([self._made_by, text], sort_keys=True)
        if kept := self._store.read(key):
            return tensors_of(kept[0])[0]
        tokens = self._tokenizer(
            [self._read(text)],
            padding="max_length" if self._kind.padded else False,
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        ).to(self._device)
        inputs = {name: tokens[name] for name in self._kind.inputs if name in tokens}
        found = features(self._model.get_text_features(**inputs))[0].cpu()
        self._store.write(key, [found])
        return found


def features(output: Any) -> torch.Tensor:
    """Return (batch, dim) float32 of length 1 from what transformers 4 (a tensor) or 5 returns."""
    found = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(found.float(), dim=-1)


def _length(kind: Kind, text: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text the model reads."""
    places = text.max_position_embeddings - (text.pad_token_id + 1 if kind.offset else 0)
    return int(min(places, tokenizer.model_max_length, kind.longest or places))
