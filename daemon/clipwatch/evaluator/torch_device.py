"""The torch device that is computed on, and how much of its memory may be taken."""

from __future__ import annotations

from typing import Final

import torch

from clipwatch.evaluator.failures import EvaluationError

_GIB: Final = 1 << 30


def find_device(wanted: str) -> str:
    """Return the torch device for "cpu", "mps", "cuda:N", or "cuda": the one with most free memory.

    Raises:
        EvaluationError: This PyTorch or this machine has none such ("model").
    """
    kind, _, number = wanted.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "mps" and torch.backends.mps.is_available()):
        return wanted
    if number.isdecimal() and int(number) < count:
        return wanted
    if wanted == "cuda" and count:
        return f"cuda:{max(range(count), key=lambda index: torch.cuda.mem_get_info(index)[0])}"
    raise EvaluationError(
        "model",
        f"device {wanted!r}: PyTorch {torch.__version__} sees {count or 'no'} such device here",
        fix="set device to 'cpu', or install a PyTorch build and a driver for it",
    )


def bound_memory(device: str, gib: float | None, *, share: bool) -> float | None:
    """Take no more than this of a GPU's memory from here on: `gib`, or half of what is free now.

    Args:
        device: As `find_device` gives it.
        gib: The bound, None for half of what is free if the GPU is shared, else for no bound.
        share: Others may compute there, too.

    Returns:
        The bound in GiB, None where there is none. What the driver itself takes for a process,
        some 0.5 GiB, comes on top.
    """
    if not device.startswith("cuda") or (gib is None and not share):
        return None
    bound = torch.cuda.mem_get_info(device)[0] / 2 if gib is None else gib * _GIB
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, bound / total), device)
    return bound / _GIB
