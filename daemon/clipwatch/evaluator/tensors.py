"""What holds for every model: tensors are finite, in memory of their own, and seen at work."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch
from torch.nn.modules.module import register_module_forward_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WORKING_SECONDS: Final = 1.0
"""Least time between two signs that models are at work."""

_FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16)


def check_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Make sure that no weight is NaN or infinite: not each of them would be seen in the pixels.

    Raises:
        ValueError: One is.
    """
    for name, tensor in tensors:
        # extremes, as `isfinite` would take as much memory again as a large tensor itself
        if tensor.dtype in _FLOATS and tensor.numel():
            extremes = torch.stack(torch.aminmax(tensor.detach()))
            if not extremes.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity in {tensor.dtype}")


def own_memory(tensors: Iterable[torch.Tensor]) -> None:
    """Detach tensors in host memory from the files that libraries mapped them from.

    Whoever truncates a mapped file kills the process, and on network file systems a mapped file
    stops the trainer from deleting its folder.
    """
    for tensor in tensors:
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


@contextmanager
def computing(working: Callable[[], object]) -> Iterator[None]:
    """Have `working` called again and again while models compute, in no other thread than ours."""
    said = time.monotonic()

    def computed(*_: object) -> None:
        nonlocal said
        if time.monotonic() - said >= WORKING_SECONDS:
            said = time.monotonic()
            working()

    hook = register_module_forward_hook(computed)
    try:
        yield
    finally:
        hook.remove()
