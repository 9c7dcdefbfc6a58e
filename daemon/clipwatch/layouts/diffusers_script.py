"""The diffusers training scripts: checkpoint-N as accelerate's save_state leaves it, no marker.

Source: diffusers examples/*/train_*.py and accelerate's checkpointing.py: the model hook writes
unet/, transformer/ or the LoRA file first, random_states_<rank>.pkl comes last.
"""

from __future__ import annotations

from clipwatch.layouts import simpletuner


def step(name: str) -> int | None:
    """The names are SimpleTuner's."""
    return simpletuner.step(name)


def owns(names: set[str]) -> bool:  # noqa: ARG001 - the layouts' interface
    """Whatever nobody else claims."""
    return True


def settling(names: set[str], siblings_marked: bool) -> float:  # noqa: ARG001 - the layouts' interface
    """Without the last file it may be a copy of the weights alone, or half a checkpoint."""
    return 1.0 if "random_states_0.pkl" in names else 6.0
