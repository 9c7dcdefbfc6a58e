"""The types of models that can score, as their config.json names them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """What a type of dual encoder asks for.

    Attributes:
        processor: The image processor that serves where a folder's config names none.
        padded: Texts are filled up to the longest, as in its training: the model reads the last
            place. Others are not padded: nothing of theirs depends on what stands behind the end.
        inputs: What its text tower takes of what a tokenizer returns.
        longest: Tokens of a text, where it was trained on fewer than it has places for.
        lower: Texts are set in small letters, as in its training; not every tokenizer does so.
        offset: Its first places are not used, as many as the padding token's number and one.
    """

    processor: str = "CLIP"
    padded: bool = False
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    longest: int | None = None
    lower: bool = False
    offset: bool = False


_BERT: Final = ("input_ids", "attention_mask", "token_type_ids")

KINDS: Final = {
    "align": Kind("EfficientNet", inputs=_BERT, longest=64),  # as AlignProcessor has it
    "altclip": Kind(offset=True),
    "chinese_clip": Kind("ChineseCLIP", inputs=_BERT),
    "clip": Kind(),
    "metaclip_2": Kind(),
    # in training nothing was masked
    "siglip": Kind("Siglip", padded=True, inputs=("input_ids",), lower=True),
    "siglip2": Kind("Siglip2", padded=True, inputs=("input_ids",), lower=True),
}


def refusal(model_type: object) -> str | None:
    """Say of "it" why a model of this type cannot score; None if it can."""
    if model_type in KINDS:
        return None
    return (
        f"is not a CLIP model or one like it but of the type {model_type!r}; the types that can"
        f" score are {', '.join(KINDS)}"
    )


def scale_key(scorer: str) -> str:
    """Name what an evaluation's environment tells of a scorer's scale; "" is the one that decides.

    The scale is what a dual encoder was trained to multiply its cosine by: 100 for OpenAI's CLIP.
    """
    return f"scorer_scale.{scorer}" if scorer else "scorer_scale"
