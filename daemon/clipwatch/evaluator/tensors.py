"""What holds for the tensors of every model: finite, and in memory of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

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
