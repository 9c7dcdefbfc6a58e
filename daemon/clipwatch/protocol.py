"""What makes a number: everything that two scores must share before they may be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

SCORING_VERSION = 1
"""Raised whenever the code would give another number for the same images and prompts."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; `id` is unique within a protocol and names it in files and trackers."""

    id: str
    text: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class NamedScorer:
    """A dual encoder that scores as well: a folder or Hub id, "" for the default revision."""

    name: str
    model: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a checkpoint is sampled and scored.

    Attributes:
        prompts: In the order of the sources.
        images_per_prompt: At least 1; all of them count.
        seed: The configured seed; 0 is a seed like any other.
        negative_prompt: "" for none.
        inference_steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        width, height: Pixels.
        scheduler: Sampler by SimpleTuner's name (ddim, euler, unipc, ...); "" keeps the pipeline's.
        base_model: Absolute folder or Hub id of the diffusers pipeline the checkpoint belongs to.
        base_revision, base_variant: For the Hub; "" for the default.
        weights: "live" or "ema".
        dtype: Of the generation: "fp32", "bf16" or "fp16". Scores are always float32.
        scorer: Absolute folder or Hub id of the CLIP model.
        scorer_revision: For the Hub; "" for the default.
        scoring_version: See SCORING_VERSION.
        scorers: Further ones, whose numbers stand beside those of the CLIP model.
    """

    prompts: tuple[Prompt, ...]
    images_per_prompt: int
    seed: int
    negative_prompt: str
    inference_steps: int
    guidance: float
    width: int
    height: int
    scheduler: str
    base_model: str
    base_revision: str
    base_variant: str
    weights: str
    dtype: str
    scorer: str
    scorer_revision: str
    scoring_version: int = SCORING_VERSION
    scorers: tuple[NamedScorer, ...] = ()

    @property
    def digest(self) -> str:
        """Sixteen hex digits; equal digests mean comparable numbers."""
        fields = msgspec.to_builtins(self)
        if not self.scorers:  # as it was before there were any
            del fields["scorers"]
        return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()[:16]

    @property
    def all_scorers(self) -> tuple[NamedScorer, ...]:
        """The one that decides, under the name "", and the further ones."""
        return (NamedScorer("", self.scorer, self.scorer_revision), *self.scorers)

    def images(self) -> Iterator[tuple[Prompt, int, int]]:
        """Yield (prompt, image index, seed) for every image, in a fixed order."""
        for prompt in self.prompts:
            for index in range(self.images_per_prompt):
                yield prompt, index, image_seed(self.seed, prompt.id, index)


def image_seed(seed: int, prompt_id: str, index: int) -> int:
    """Return the seed of one image, in 0 .. 2**63-1.

    It depends on nothing but its arguments, so every checkpoint, batch size, order and number of
    devices starts an image from the same noise.
    """
    text = f"{seed}\0{prompt_id}\0{index}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1
