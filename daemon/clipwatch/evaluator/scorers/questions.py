"""How well a picture meets each requirement of its prompt, by a vision-language model's answers."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers.vision_language import VisionLanguage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from clipwatch.domain.protocol import Prompt, ScorerSpec
    from clipwatch.evaluator.store import Store


WORD: Final = "Answer in one word."
"""What stands behind each question, as in GenEval 2's own script."""


class Questions:
    """The probability of the right answer to each question of a prompt.

    Their mean is Soft-TIFA of GenEval 2 (arXiv 2512.16853) at the level of atoms.

    Args:
        spec: Names the model.
        device: A torch device.
        store: What is kept on disk.
        digest: Identifies the content of its files; "" when that is unknown.

    Raises:
        EvaluationError: The model cannot be read ("model").
    """

    told = ""

    def __init__(self, spec: ScorerSpec, device: str, store: Store, digest: str) -> None:
        self._model = VisionLanguage(spec, device, store, digest)
        self.commit = self._model.commit

    def prepare(self, prompts: Sequence[str]) -> int:  # noqa: ARG002 - it reads questions alone
        """Read no prompt, so none is too long."""
        return 0

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:  # noqa: ARG002 - as above
        """Refuse: a text alone has no questions.

        Raises:
            EvaluationError: Always ("scores").
        """
        raise EvaluationError("scores", "it answers a prompt's questions, and a text has none")

    def answers(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
        """Return probabilities, 0..1: of each image those of its prompt's answers."""
        asked = [
            (place, f"{it.text} {WORD}", it.answer)
            for place, prompt in enumerate(prompts)
            for it in prompt.questions
        ]
        found = iter(self._model.probabilities(images, asked))
        return [tuple(islice(found, len(it.questions))) for it in prompts]
