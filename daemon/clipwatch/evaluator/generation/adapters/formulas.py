"""What an adapter makes of a weight, in every form that can be told from a file's tensors alone.

Sources: LyCORIS 4.1.3 (get_weight of each module), sd-scripts (networks/oft.py), OneTrainer
23df383 (modules/module/LoRAModule.py and oft_utils.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Final

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]

_PAIR: Final = 2  # dimensions of a matrix
_TERMS: Final = 5  # of Cayley's series, in OneTrainer


def changed(weight: Tensor, tensors: Tensors) -> Tensor:
    """Return the weight with which a layer acts once it is adapted, in full strength.

    Args:
        weight: (outputs, inputs, *kernel), float32.
        tensors: Of the layer, by the names that `lycoris_part` gives; on the weight's device.

    Raises:
        ValueError: They are of a form that is not known, or do not fit the weight.
    """
    change = next((it for leaves, it in _FORMS if tensors.keys() <= set(leaves.split())), None)
    if change is None:
        raise ValueError(f"{', '.join(sorted(tensors))} are of no form that is known here")
    try:
        return change(weight, tensors)
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(f"{name} {list(it.shape)}" for name, it in sorted(tensors.items()))
        raise ValueError(f"{shapes} do not fit {list(weight.shape)}") from error


def _sum(weight: Tensor, t: Tensors, added: Tensor) -> Tensor:
    whole = weight + added.reshape(weight.shape)
    return _scaled(whole, t["dora_scale"]) if "dora_scale" in t else whole


def _locon(weight: Tensor, t: Tensors) -> Tensor:
    up, down = t["lora_up.weight"].flatten(1), t["lora_down.weight"]
    if "lora_mid.weight" in t:
        pair = _tucker(t["lora_mid.weight"], up.mT, down.flatten(1))
    else:
        pair = up @ down.flatten(1)
    return _sum(weight, t, _scale(t, down.shape[0]) * pair)


def _loha(weight: Tensor, t: Tensors) -> Tensor:
    first, second = (_hada(t, number) for number in (1, 2))
    return _sum(weight, t, _scale(t, t["hada_w1_b"].shape[0]) * first * second)


def _full(weight: Tensor, t: Tensors) -> Tensor:
    return _sum(weight, t, t["diff"])


def _scale(t: Tensors, rank: int) -> float:
    return float(t["alpha"]) / rank


def _tucker(core: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return (outputs, inputs, *kernel) of a core (rank, rank, *kernel) and two (rank, side)."""
    return torch.einsum("ij...,io,jn->on...", core, outputs, inputs)


def _hada(t: Tensors, number: int) -> Tensor:
    a, b = t[f"hada_w{number}_a"], t[f"hada_w{number}_b"]
    core = t.get(f"hada_t{number}")
    return a @ b if core is None else _tucker(core, a, b).flatten(1)


def _lokr(weight: Tensor, t: Tensors) -> Tensor:
    """Add the product of a small matrix and a large one, which may have a kernel."""
    ranks = [t[half].shape[0] for half in ("lokr_w1_b", "lokr_w2_b") if half in t]
    small = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        large = t["lokr_w2"]
    elif "lokr_t2" in t:
        large = _tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        large = t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1)
    scale = _scale(t, ranks[0]) if ranks else 1.0  # alphas of whole matrices mean nothing
    # a kernel stands last in both
    return _sum(weight, t, scale * torch.kron(small, large.flatten(1)))


def _scaled(weight: Tensor, magnitude: Tensor) -> Tensor:
    """Give a weight the magnitudes of a DoRA: of its outputs, or of its inputs by their shape."""
    factors: Tensor
    if magnitude.dim() > 1 and magnitude.shape[0] == 1 < magnitude.shape[1]:
        norms = weight.transpose(0, 1).flatten(1).norm(dim=1)
        factors = (magnitude.flatten() / norms).reshape(1, -1, *[1] * (weight.dim() - _PAIR))
    else:
        factors = (magnitude.flatten() / weight.flatten(1).norm(dim=1)).reshape(
            -1, *[1] * (weight.dim() - 1)
        )
    return weight * factors


def _turned_outputs(weight: Tensor, t: Tensors) -> Tensor:
    """Turn blocks of outputs (OFT of sd-scripts and LyCORIS); alpha limits the turn, by Cayley."""
    blocks = t["oft_blocks"]
    skew = blocks - blocks.mT
    limit = float(t["alpha"]) * weight.shape[0]
    if 0 < limit < float(skew.norm()):
        skew = skew * limit / skew.norm()
    one = torch.eye(skew.shape[-1], device=skew.device)
    turns = (one + skew) @ (one - skew).inverse()
    count, size, _ = blocks.shape
    found = torch.einsum("knm,knp->kmp", turns, weight.reshape(count, size, -1))
    found = found.reshape(weight.shape)
    return found * t["rescale"] if "rescale" in t else found


def _turned_inputs(weight: Tensor, t: Tensors) -> Tensor:
    """Turn blocks of inputs: OneTrainer's OFT v2, or PEFT's, which tells its terms of the series.

    PEFT turns what a layer is given, also where it is a convolution.
    """
    upper = t["oft_R.weight"]
    size = round((1 + sqrt(1 + 8 * upper.shape[1])) / 2)
    rows = weight.flatten(1)
    if rows.shape[1] % size or upper.shape[0] not in {1, rows.shape[1] // size}:
        raise ValueError(f"oft_R {list(upper.shape)} do not fit {list(weight.shape)}")
    if "oft_R.terms" in t and weight.shape[2:].numel() > 1:
        raise ValueError(f"{list(weight.shape)} has a kernel, which PEFT's OFT turns in pieces")
    if "oft_R.scaled_oft" in t:
        upper = upper / (2 * sqrt(size - 1))
    skew = upper.new_zeros(upper.shape[0], size, size)
    first, second = torch.triu_indices(size, size, 1)
    skew[:, first, second] = upper
    skew = skew - skew.mT
    terms = int(t.get("oft_R.terms", torch.tensor(_TERMS)))
    turns = _cayley(skew, terms)
    turns = turns.expand(rows.shape[1] // size, -1, -1)
    # a layer that turns what it is given turns its weight the other way round
    by = turns.mT if weight.dim() == _PAIR or "oft_R.terms" in t else turns
    parts = rows.reshape(rows.shape[0], -1, size)
    return torch.einsum("ork,rkc->orc", parts, by).reshape(weight.shape)


def _cayley(skew: Tensor, terms: int) -> Tensor:
    """Return what blocks turn by: Cayley's series as PEFT ends it, or with 0 all of it.

    All of it is turned the other way, in PEFT's own code.
    """
    one = torch.eye(skew.shape[-1], device=skew.device).expand_as(skew)
    if not terms:
        other: Tensor = torch.linalg.solve(one + skew, one - skew, left=False)
        return other
    highest = {1: 0, 2: 1}.get(terms, max(3, terms - 1))
    found, power = one, one
    for number in range(1, highest + 1):
        power = power @ skew
        found = found + (1 if number == highest > 1 else 2) * power
    return found


_FORMS: Final[tuple[tuple[str, Callable[[Tensor, Tensors], Tensor]], ...]] = (
    ("lora_up.weight lora_down.weight lora_mid.weight alpha dora_scale", _locon),
    ("hada_w1_a hada_w1_b hada_t1 hada_w2_a hada_w2_b hada_t2 alpha dora_scale", _loha),
    (
        "lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2 alpha dora_scale",
        _lokr,
    ),
    ("diff dora_scale", _full),
    ("oft_blocks alpha rescale", _turned_outputs),
    ("oft_R.weight oft_R.scaled_oft oft_R.terms", _turned_inputs),
)
"""By the tensors that they may have; which they must have, `modules_of` makes sure of."""
