"""transformers' processors of vision-language models for still images: without torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import AutoImageProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from clipwatch.evaluator.failures import EvaluationError

if TYPE_CHECKING:
    from pathlib import Path


def read_stills(folder: Path, config: Any) -> Any:
    """Return the processor of a model, which prepares images by Pillow and lacks its video part.

    That part alone is what needs torchvision.

    Args:
        folder: Of the model.
        config: The model's own, loaded.

    Raises:
        EvaluationError: It has no chat template ("model").
    """
    usual = PROCESSOR_MAPPING[type(config)]

    class Stills(usual):  # type: ignore[misc, valid-type]
        """The processor without a part that it checks for."""

        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            return None if part is None else super().check_argument_for_proper_class(name, part)

    how = {"local_files_only": True, "trust_remote_code": False}
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(folder, backend="pil", **how),
        "tokenizer": AutoTokenizer.from_pretrained(folder, **how),
    }
    named, _ = Stills.get_processor_dict(folder, local_files_only=True)
    found = Stills.from_args_and_dict([parts.get(it) for it in Stills.get_attributes()], named)
    found.chat_template = found.chat_template or found.tokenizer.chat_template
    if not found.chat_template:
        raise EvaluationError("model", "its chat template is missing")
    return found
