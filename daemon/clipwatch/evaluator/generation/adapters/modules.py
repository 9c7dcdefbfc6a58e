"""The tensors of an adapter's file by the modules that it names, before any name is translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.generation.adapters.names import PEFT, some
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


def of_peft(state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Tensors:
    """Return the tensors of PEFT's LoHa or LoKr with the alphas that its config alone tells.

    PEFT scales whole matrices of a LoKr, too, whose alphas mean nothing elsewhere.
    """
    found = dict(state)
    for module in {part[0] for name in state if (part := lycoris_part(name))}:
        path = module.removeprefix(PEFT)
        rank, alpha = (_told(config, name, path) for name in ("r", "alpha"))
        found.setdefault(f"{module}.alpha", torch.tensor(float(alpha)))
        small = f"{module}.lokr_w1"
        if small in state and f"{module}.lokr_w2" in state:
            found[small] = state[small].float() * (alpha / rank)
    return found


def _told(config: Mapping[str, Any], name: str, path: str) -> float:
    """Return a module's rank ("r") or alpha.

    Raises:
        ValueError: The config has none.
    """
    from peft.utils.other import get_pattern_key

    pattern = config.get({"r": "rank_pattern"}.get(name, f"{name}_pattern")) or {}
    told = pattern.get(get_pattern_key(list(pattern), path), config.get(name))
    if not isinstance(told, int | float) or (name == "r" and told <= 0):
        raise ValueError(f"its config tells no {name} of {path}")
    return told


def unknown(lost: Collection[str], total: int) -> ValueError:
    """Return what is told of modules that the base model has not."""
    return ValueError(
        f"of {total} modules the base model has not {some(lost)} under any name that is known"
    )
