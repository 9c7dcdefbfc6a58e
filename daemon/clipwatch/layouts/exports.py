"""What trainers leave in the output directory when they are done, beside the checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

EXPORTS: Final = (
    "pipeline/model_index.json",  # SimpleTuner, the whole model (trainer.py, after the last step)
    "pytorch_lora_weights.safetensors",  # a LoRA: SimpleTuner and the scripts of diffusers
    "model_index.json",  # the scripts of diffusers, the whole model
    "unet_lora/pytorch_lora_weights.safetensors",  # their LCM LoRA
)
"""Each is the last or the only file of its export to be written."""


_NUMBERED: Final = re.compile(r"(?P<name>.+?)(-step\d{8}|-\d{6}|_\d{9})(\.safetensors)?", re.ASCII)
"""Of sd-scripts and musubi-tuner (step, epoch) and ai-toolkit, whose final one has no number."""


def export_written(output_dir: Path) -> float | None:
    """Return when the final model was written (mtime, in seconds), None while there is none."""
    written = []
    for name in (*EXPORTS, *_unnumbered(output_dir)):
        with suppress(OSError):
            written.append((output_dir / name).stat().st_mtime)
    return max(written, default=None)


def _unnumbered(output_dir: Path) -> Iterator[str]:
    """Yield what the final one beside numbered checkpoints would be called."""
    with suppress(OSError):
        matches = map(_NUMBERED.fullmatch, os.listdir(output_dir))
        for name in {match["name"] for match in matches if match}:
            yield from (f"{name}.safetensors", f"{name}/model_index.json")
