"""Models that answer questions about an image: which serve as scorers, their files, their scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.kit.errors import SettingsError
from clipwatch.layouts.files import NotWhole, read_json
from clipwatch.models import dual_encoders
from clipwatch.models.files import TOKENIZERS, Unfit
from clipwatch.models.kinds import ScorerKind
from clipwatch.models.likeness import PROCESSORS
from clipwatch.models.quoted import unquoting
from clipwatch.statistics.scale import Scale

MODELS: Final = (
    "gemma3",
    "internvl",
    "llava_onevision",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_vl",
)
"""Types of models whose images transformers prepares without torchvision."""

DTYPE: Final = "dtype"
"""The option that says in which numbers a model computes."""

BYTES: Final = {"float32": 4, "bfloat16": 2}
"""Its values, and the bytes of a weight. float16 overflows in models that were trained in bfloat16.
"""

TIES: Final = {"float32": 1e-3, "bfloat16": 0.03}
"""Differences of probabilities that are none. An image that is generated in another batch moves
CLIP's logits by up to 0.0021 (see COSINE), and a probability changes by a quarter of its logit at
most; bfloat16 rounds logits between 16 and 32 to an eighth, of each of two answers."""

_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json")


def refusal(model_type: object) -> str | None:
    """Say of "it" why a model of this type cannot be asked; None if it can."""
    if model_type in MODELS:
        return None
    return (
        f"is of the type {model_type!r}; the types that can be asked about images are"
        f" {', '.join(MODELS)}"
    )


def files(folder: Path) -> list[Path]:
    """Return the files of a model that answers questions about images, all of them there.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    found = dual_encoders.model_files(folder, refusal)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise NotWhole("its tokenizer is missing")
    if not any((folder / name).is_file() for name in PROCESSORS):
        raise NotWhole(f"its {PROCESSORS[0]} is missing")
    if not _has_template(folder):
        raise Unfit("has no chat template, so it was not taught to answer questions")
    return found


def _has_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _TEMPLATES):
        return True
    configs = [folder / name for name in ("tokenizer_config.json", "processor_config.json")]
    return any(read_json(it).get("chat_template") for it in configs if it.is_file())


def dtype_of(spec: ScorerSpec) -> str:
    """Return in which numbers a scorer computes, one of BYTES.

    Raises:
        SettingsError: It is none of them.
    """
    named = dict(spec.options).get(DTYPE, "float32")
    if named not in BYTES:
        raise SettingsError(f"{DTYPE}={named} is not known", fix=f"write {' or '.join(BYTES)}")
    return named


def weight_bytes(spec: ScorerSpec) -> int:
    """Return the bytes of a weight of a scorer's model: 4, for all but those that say otherwise."""
    return BYTES.get(dict(spec.options).get(DTYPE, ""), 4)


def kind(
    target: str, *options: str, lacking: Callable[[Sequence[str]], str] | None = None
) -> ScorerKind:
    """Return a kind of scorers that ask such a model, whose numbers are 0..1, as probabilities are.

    Args:
        target: See ScorerKind.
        options: Which ones it takes, beside the dtype.
        lacking: See ScorerKind.
    """
    known = (DTYPE, *options)

    def scale(spec: ScorerSpec, told: str = "") -> Scale:  # noqa: ARG001 - the kind's interface
        """Return the scale, 0 to 1; which difference matters nobody has measured."""
        if other := [name for name, _ in spec.options if name not in known]:
            problem = f"the option {other[0]!r} of {spec.kind} is not known"
            raise SettingsError(problem, fix=f"it has {', '.join(known)}")
        return Scale(0.0, 1.0, tie=TIES[dtype_of(spec)])

    return ScorerKind(target, scale, files, lacking=lacking)


VQASCORE: Final = kind("clipwatch.evaluator.scorers.vision_language:VQAScore")
"""How probably an image shows its prompt."""

OCR: Final = kind("clipwatch.evaluator.scorers.reading:Reading", lacking=unquoting)
"""How well the text that its prompt quotes stands in an image."""
