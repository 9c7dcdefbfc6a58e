"""What trainers leave in the output directory when they are done, beside the checkpoints."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

EXPORTS: Final = (
    "pipeline/model_index.json",  # SimpleTuner, the whole model (trainer.py, after the last step)
    "pytorch_lora_weights.safetensors",  # a LoRA: SimpleTuner and the scripts of diffusers
    "model_index.json",  # the scripts of diffusers, the whole model
)
"""Each is the last or the only file of its export to be written."""


def export_written(output_dir: Path) -> float | None:
    """Return when the final model was written (mtime, in seconds), None while there is none."""
    written = []
    for name in EXPORTS:
        with suppress(OSError):
            written.append((output_dir / name).stat().st_mtime)
    return max(written, default=None)
