"""How probable a model finds an answer about an image: VQAScore, and what asks other questions.

An image and a question are a forward pass of their own, without padding: so nothing depends on what
is beside it, in any dtype and with any kind of attention. An image's own features are computed
once for all of its questions.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from clipwatch.evaluator.failures import EvaluationError, failing_as, from_hub
from clipwatch.evaluator.scorers.files import locate, read_config
from clipwatch.evaluator.scorers.loading import loaded
from clipwatch.evaluator.scorers.stills import read_stills
from clipwatch.models.vision_language import dtype_of, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clipwatch.domain.protocol import ScorerSpec
    from clipwatch.evaluator.store import Store

QUESTION: Final = 'Does this figure show "{}"? Please answer yes or no.'
"""Of VQAScore (Lin et al. 2024, arXiv 2404.01291); its answer is "Yes"."""

_PIXELS: Final = "pixel_values"
_THINKING: Final = "enable_thinking"
"""Of chat templates that have it: without it the answer stands first."""


class VisionLanguage:
    """A model that answers questions about images, on one device.

    Args:
        spec: Names the model, and its dtype.
        device: A torch device.
        store: Not used.
        digest: Identifies the content of the model's files; "" when that is unknown.

    Raises:
        EvaluationError: It cannot be loaded or is of a type that cannot be asked ("model").
    """

    told = ""

    def __init__(self, spec: ScorerSpec, device: str, store: Store, digest: str) -> None:  # noqa: ARG002 - see MakeScorer
        what = f"scorer {spec.model!r} cannot be loaded"
        dtype = getattr(torch, dtype_of(spec))
        with failing_as("model", what):
            with from_hub(what):
                folder, self.commit = locate(spec)
            model_type = read_config(folder / "config.json").get("model_type")
            if reason := refusal(model_type):
                raise EvaluationError("model", f"scorer {spec.model!r} {reason}")
            self._model = loaded(
                spec.model, folder, device, digest, auto=AutoModelForImageTextToText, dtype=dtype
            )
            self._processor = read_stills(folder, self._model.config)
        template = str(self._processor.chat_template)
        self._chat = {_THINKING: False} if _THINKING in template else {}
        looks = inspect.signature(self._model.get_image_features).parameters
        self._looks = [it for it in looks if it != "kwargs"]

    def prepare(self, prompts: Sequence[str]) -> int:  # noqa: ARG002 - it reads whole ones
        """Read no prompt before it is asked about; none is too long."""
        return 0

    @torch.inference_mode()
    def probabilities(
        self,
        images: torch.Tensor,
        asked: Sequence[tuple[int, str, str]],
        *,
        as_written: bool = False,
    ) -> list[float]:
        """Return the probability, 0..1, that each question is answered so.

        It is that of the answer's tokens at the beginning of what the model would say, among all
        tokens that it has: the product over its tokens, each after those before it, added up for
        all its spellings (see `spellings`). What follows them is not looked at.

        Args:
            images: (n, height, width, 3) uint8 RGB on any device.
            asked: The place of the image, the question, and the answer.
            as_written: Small and capital letters matter.

        Raises:
            ValueError: An answer is empty.
        """
        found = [0.0] * len(asked)
        in_order = sorted(range(len(asked)), key=lambda it: asked[it][0])
        for place, its in groupby(in_order, key=lambda it: asked[it][0]):
            image, seen = Image.fromarray(images[place].cpu().numpy()), None
            for at in its:
                _, question, answer = asked[at]
                inputs = self._inputs(image, question)
                if seen is None:
                    seen = self._seen(inputs)
                ways = self._tokens(spellings(answer, as_written=as_written))
                found[at] = self._probability(inputs, seen, ways)
        return found

    def _inputs(self, image: Image.Image, question: str) -> dict[str, Any]:
        """Return what the model takes, each (1, ...): the chat up to where the answer begins."""
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        found = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,  # a prompt is text, whatever it holds
            **self._chat,
        )
        return dict(found.to(self._model.device, self._model.dtype))

    def _seen(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the features of the image, as `forward` takes them."""
        pixels = {name: inputs[name] for name in self._looks if name in inputs}
        return {"image": self._model.get_image_features(**pixels)}

    def _tokens(self, ways: Iterable[str]) -> list[tuple[int, ...]]:
        """Return the tokens of texts, and of those behind a space where that is no token more.

        Whether an answer begins with a space is a matter of the chat template before it.
        """
        found = []
        for way in ways:
            plain, spaced = (
                tuple(self._processor.tokenizer.encode(it, add_special_tokens=False))
                for it in (way, f" {way}")
            )
            if not plain:
                raise ValueError("the answer to a question is empty")
            found += [plain, spaced] if len(spaced) <= len(plain) else [plain]
        return list(dict.fromkeys(found))

    def _probability(
        self, inputs: dict[str, Any], seen: dict[str, Any], ways: Sequence[tuple[int, ...]]
    ) -> float:
        """Return that of any of these sequences of tokens."""
        ends = defaultdict(list)
        for way in ways:
            ends[way[:-1]].append(way[-1])
        total = 0.0
        for start, last in ends.items():
            chances = self._chances(inputs, seen, start)
            before = sum(chances[at, token] for at, token in enumerate(start))
            total += float((before + chances[-1, last]).exp().sum())
        return min(total, 1.0)  # above it by rounding alone

    def _chances(
        self, inputs: dict[str, Any], seen: dict[str, Any], start: tuple[int, ...]
    ) -> torch.Tensor:
        """Return (tokens of start + 1, vocabulary) float64 logarithms of probabilities."""
        places = inputs["input_ids"].shape
        told = {name: it for name, it in inputs.items() if name != _PIXELS}
        for name, it in told.items():
            if it.shape == places:  # a value for each token
                more = {"input_ids": start, "attention_mask": (1,) * len(start)}
                its = more.get(name, (0,) * len(start))
                told[name] = torch.cat([it, it.new_tensor([its])], dim=1)
        logits: torch.Tensor = self._model(
            **told, mm_encoder_outputs=dict(seen), logits_to_keep=len(start) + 1, use_cache=False
        ).logits
        return logits[0].cpu().double().log_softmax(dim=-1)


class VQAScore(VisionLanguage):
    """How probably an image shows its prompt: that a model answers VQAScore's question by "Yes"."""

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:
        """Return a probability, 0..1, for each image with the prompt of the same place.

        Args:
            images: (n, height, width, 3) uint8 on any device.
            prompts: n texts.
        """
        asked = [(at, QUESTION.format(prompt), "Yes") for at, prompt in enumerate(prompts)]
        return self.probabilities(images, asked, as_written=True)


NUMBERS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
)
"""Words that models answer in digits as well."""


def spellings(answer: str, *, as_written: bool = False) -> list[str]:
    """Return an answer as it is written, in small letters, with a capital one first, in digits."""
    digits = [str(NUMBERS.index(answer.lower()))] if answer.lower() in NUMBERS else []
    ways = (answer, answer.lower(), answer[:1].upper() + answer[1:], *digits)
    return [answer] if as_written else list(dict.fromkeys(ways))
