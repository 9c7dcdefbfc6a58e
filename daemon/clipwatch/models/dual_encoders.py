"""CLIP models and those like them: which types can score, their files, their scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.layouts.files import NotWhole, read_json, shards
from clipwatch.models.files import TOKENIZERS, Unfit, texts_of
from clipwatch.models.kinds import ScorerKind
from clipwatch.statistics.scale import COSINE, Scale


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


def files(folder: Path) -> list[Path]:
    """Return the files of a CLIP model or one like it, all of them there.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    found = model_files(folder, refusal)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise NotWhole("its tokenizer is missing")
    return found


def model_files(folder: Path, refusal: Callable[[object], str | None]) -> list[Path]:
    """Return texts and weights of a model of transformers whose type is not refused.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise Unfit("has no config.json, so it is no model of transformers")
    if reason := refusal(read_json(config).get("model_type")):
        raise Unfit(reason)
    weights = shards(folder, "model")
    if weights is None:
        pickles = any(folder.glob("*.bin"))
        raise Unfit(f"has no safetensors weights{', only pickles' if pickles else ''}")
    return [*texts_of(folder), *weights]


def scale(spec: ScorerSpec, told: str = "") -> Scale:
    """Return the scale of cosines, and what matters in it.

    Args:
        spec: Names the model; the bounds for advice are those of OpenAI's ViT-L/14 alone. From
            what those who train say of CLIP scores: 0.18 to 0.22 is probably a poor model, and
            from 0.30 on differences of means say little.
        told: By what the loaded model was trained to multiply its cosine: 100 for OpenAI's CLIP.
    """
    found = COSINE
    if told:
        found = replace(found, worth=float(f"{LOGITS / float(told):.2g}"))
    if spec.model.rstrip("/").rpartition("/")[2] in _BOUNDED:
        found = replace(found, poor=0.22, saturated=0.30)
    return found


LOGITS: Final = 0.5
"""A difference that matters by default, in a scorer's own logits, which are its cosines times its
scale: 0.005 for CLIP, whose scale is 100. To that scorer the odds that a picture and its prompt
belong together differ by a factor of 1.65 then."""

_BOUNDED: Final = ("clip-vit-large-patch14", "clip-vit-large-patch14-336")

DUAL_ENCODERS: Final = ScorerKind(
    "clipwatch.evaluator.scorers.dual_encoder:DualEncoder", scale, files
)
"""The entry point."""
