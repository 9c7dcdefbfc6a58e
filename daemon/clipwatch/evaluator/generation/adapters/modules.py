"""The tensors of an adapter's file by the modules that it names, before any name is translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from clipwatch.evaluator.generation.adapters.names import some
from clipwatch.layouts.adapter_file import lycoris_lacks, lycoris_part

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Tensors = dict[str, torch.Tensor]

_HADA: Final = "hada_w"
_PAIR: Final = 2  # dimensions of a matrix


def modules_of(state: Mapping[str, torch.Tensor]) -> dict[str, Tensors]:
    """Join the tensors of each module of a file, whose names `lycoris_part` splits.

    Raises:
        ValueError: A module lacks some of its own, or has one twice.
    """
    modules: dict[str, Tensors] = {}
    for name, tensor in state.items():
        module, leaf = lycoris_part(name) or (name, "")
        # OneTrainer's pairs of 1 x 1 convolutions have all four dimensions
        plain = leaf.startswith(_HADA) and tensor.dim() > _PAIR and tensor.shape[2:].numel() == 1
        leaves = modules.setdefault(module, {})
        if leaf in leaves:
            raise ValueError(f"it holds {leaf} of {some({module})} twice")
        leaves[leaf] = tensor.flatten(1) if plain else tensor
    parts = {name: lacks for name, leaves in modules.items() if (lacks := lycoris_lacks(leaves))}
    if parts:
        missing = " and ".join(sorted({leaf for lacks in parts.values() for leaf in lacks}))
        raise ValueError(f"it holds only a part of {some(parts)}: {missing} is missing")
    return modules


def unknown(lost: Collection[str], total: int) -> ValueError:
    """Return what is told of modules that the base model has not."""
    return ValueError(
        f"of {total} modules the base model has not {some(lost)} under any name that is known"
    )
