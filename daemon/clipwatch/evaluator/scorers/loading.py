"""Models of transformers that score: one of the same files is in memory once."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from transformers import AutoModel

from clipwatch.evaluator.depth import check_depth
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.foreign import check_shards
from clipwatch.evaluator.tensors import check_finite, own_memory

if TYPE_CHECKING:
    from pathlib import Path

_there: WeakValueDictionary[tuple[Path, str, str, torch.dtype], Any] = WeakValueDictionary()


def loaded(
    name: str,
    folder: Path,
    device: str,
    files: str = "",
    auto: Any = AutoModel,
    dtype: torch.dtype = torch.float32,
    **how: Any,
) -> Any:
    """Return a model on a device; scorers share one, which goes with the last of them.

    Args:
        name: Of the model, for a person.
        folder: Where it lies.
        device: A torch device.
        files: Identifies the content of its files; "" for unknown, and it is not shared.
        auto: Which of transformers' auto classes makes it; the same for all that name the folder.
        dtype: Of its weights, and so of what it computes.
        **how: What else its class is told.

    Raises:
        EvaluationError: Not all of its weights are there ("model").
    """
    key = folder, device, files, dtype
    if files and (known := _there.get(key)) is not None:
        return known
    model = _read(name, folder, auto, how | {"dtype": dtype}).to(device)
    check_finite(model.named_parameters())
    own_memory(chain(model.parameters(), model.buffers()))
    if files:
        _there[key] = model
    return model


def _read(name: str, folder: Path, auto: Any, how: dict[str, Any]) -> Any:
    check_shards(folder)
    check_depth(folder)
    model, loading = auto.from_pretrained(
        folder,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **how,
    )
    if missing := sorted(loading["missing_keys"]):
        raise EvaluationError("model", f"scorer {name!r} lacks the weights {missing[:3]}")
    return model.eval()
