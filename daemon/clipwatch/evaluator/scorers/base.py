"""What a scorer is: it gives every image a number, by its prompt."""

from __future__ import annotations

import math
import pkgutil
from statistics import fmean
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from clipwatch.evaluator.failures import EvaluationError, cause, one_line
from clipwatch.kit.errors import SettingsError
from clipwatch.models.scorers import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from clipwatch.domain.protocol import Prompt, ScorerSpec
    from clipwatch.evaluator.store import Store
    from clipwatch.statistics.scale import Scale


class Scorer(Protocol):
    """Scores images on one device; it stays in memory from one checkpoint to the next.

    Whatever it is asked, and beside what, the same image and prompt have the same score: higher is
    better, and within the scale of its kind (see models.kinds.ScorerKind).
    """

    @property
    def commit(self) -> str:
        """Of its model on the Hub; "" for a folder or none."""

    @property
    def told(self) -> str:
        """What its kind wants to know for its scale; "" for nothing. It is told with results."""

    def prepare(self, prompts: Sequence[str]) -> int:
        """Get to know the prompts of an evaluation; return of how many it reads but a part.

        Called once before the first image; what it costs to read them may be paid later.
        """

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:
        """Return a finite score for each image with the prompt of the same place.

        On a GPU it runs on a stream of its own, beside the generation of the next images.

        Args:
            images: (n, height, width, 3) uint8 RGB on any device; not to be changed.
            prompts: n texts, out of those that it was prepared for.
        """


@runtime_checkable
class Answerer(Scorer, Protocol):
    """A scorer that answers questions: a prompt's score is the mean of its answers.

    Its kind says that it `asks`. Of a text alone it knows none, and `score` is not called.
    """

    def answers(
        self, images: torch.Tensor, prompts: Sequence[Prompt]
    ) -> Sequence[tuple[float, ...]]:
        """Return how probable the right answer to each question of an image's prompt is.

        Args:
            images: As for `score`.
            prompts: n of them, each with a question or more.
        """


Measured = tuple[float, tuple[float, ...]]
"""An image's score and, of an Answerer, the answers of which it is the mean."""


def measured(
    name: str, scorer: Scorer, images: torch.Tensor, prompts: Sequence[Prompt]
) -> list[Measured]:
    """Return what a scorer of this name gives each image with the prompt of the same place.

    Raises:
        EvaluationError: It gave too many, or too few ("scores").
    """
    if isinstance(scorer, Answerer):
        answers = scorer.answers(images, prompts)
        asked = [len(it.questions) for it in prompts]
        if [len(it) for it in answers] != asked or 0 in asked:
            raise EvaluationError("scores", f"scorer {name!r} did not answer every question")
        return [(fmean(it), tuple(map(float, it))) for it in answers]
    scores = scorer.score(images, [it.text for it in prompts])
    if len(scores) != len(prompts):
        what = f"scorer {name!r} gave {len(scores)} scores for {len(prompts)} images"
        raise EvaluationError("scores", what)
    return [(it, ()) for it in scores]


class MakeScorer(Protocol):
    """What the `target` of a kind names."""

    def __call__(self, spec: ScorerSpec, device: str, store: Store, digest: str) -> Scorer:
        """Return a scorer.

        Args:
            spec: The model and the options.
            device: A torch device.
            store: What is kept on disk across restarts: text features, say.
            digest: Identifies the content of its files, for the store's keys; "" for unknown.

        Raises:
            EvaluationError: It cannot be had ("model"); any other error is told as that.
        """


def make(spec: ScorerSpec, device: str, store: Store, digest: str) -> Scorer:
    """Return a scorer of any kind that is installed; see MakeScorer.

    Raises:
        EvaluationError: It cannot be had.
    """
    try:
        return _made(spec, device, store, digest)
    except EvaluationError:
        raise
    except SettingsError as error:
        raise EvaluationError("model", error.problem, fix=error.fix) from error
    except Exception as error:
        what = f"scorer '{spec}' cannot be loaded"
        kind = cause(error) or "model"
        raise EvaluationError(kind, f"{what}: {type(error).__name__}: {one_line(error)}") from error


def _made(spec: ScorerSpec, device: str, store: Store, digest: str) -> Scorer:
    kind = kind_of(spec.kind)
    maker: MakeScorer = pkgutil.resolve_name(kind.target)
    found = maker(spec, device, store, digest)
    if kind.asks != isinstance(found, Answerer):
        does, has = ("asks", "no") if kind.asks else ("does not ask", "a method")
        what = f"its kind {does} the prompts' questions, and it has {has} `answers`"
        raise EvaluationError("model", f"scorer '{spec}': {what}")
    return found


def checked(score: float, scorer: str, scale: Scale, prompt_id: str) -> float:
    """Return the score.

    Raises:
        EvaluationError: It is NaN, or outside of the scorer's scale ("scores").
    """
    whose = f"scorer {scorer!r}" if scorer else "the scorer"
    if not math.isfinite(score):
        raise EvaluationError(
            "scores",
            f"the score of prompt {prompt_id!r} is {score}",
            fix=f"check the weights of {whose}",
        )
    rounding = max(scale.tie, 1e-6 * scale.bound)
    if not scale.low - rounding <= score <= scale.high + rounding:
        raise EvaluationError(
            "scores",
            f"the score of prompt {prompt_id!r} is {score}, outside of the scale of {whose},"
            f" {scale.low:g} to {scale.high:g}",
        )
    return score
