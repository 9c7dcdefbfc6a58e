"""Quantised bases: the denoiser's linear layers stored in few bits, as the trainer stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.failures import EvaluationError, failing_as
from clipwatch.models.precisions import PRECISIONS, lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    Keep = Callable[[torch.nn.Module, str], bool]

_MULTIPLE: Final = 16  # of a layer's sides, for torchao's kernels

_BLOCK: Final = 64
"""Weights of a row that share a scale; bitsandbytes' kernels for processors take whole ones."""

_EXCLUDED: Final = {
    "SD3Transformer2DModel": (
        *("*norm*", "*norm1_context*", "*norm_added_q*", "*norm_out*", "*pos_embed*", "*ffn*"),
        *("*patch_embedding*", "*scale_shift_table*", "*context_embedder*", "*time_text_embed*"),
        *("*time_proj*", "*condition_embedder*", "proj_out*"),
    ),
    "FluxTransformer2DModel": (
        *("*.norm", "*.norm1", "*.norm2", "*.norm2_context", "norm_out"),
        *("proj_out", "x_embedder", "context_embedder"),
    ),
}
"""Layers that SimpleTuner leaves as they are with quanto, by the class of the denoiser.

From helpers/training/quantisation/__init__.py of 4.10.1."""


def quantise(model: torch.nn.Module, precision: str, device: str) -> None:
    """Store a denoiser's linear layers in few bits, in place.

    Args:
        model: In host memory.
        precision: A key of PRECISIONS.
        device: Where torchao and bitsandbytes compute the new weights.

    Raises:
        EvaluationError: It is none, its library is not installed, or it cannot be done here
            ("model").
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise EvaluationError("model", f"base_precision {precision!r} is not one of {known}")
    if missing := lacking(precision):
        raise EvaluationError(
            "model",
            f"base_precision {precision!r} needs a package that is not installed",
            fix=f"pip install 'clipwatch[{missing}]'",
        )
    how = PRECISIONS[precision]
    with failing_as("model", f"the base model cannot be quantised as {precision!r}"):
        _BY[how.library](model, how.kind, device)
    model.eval()  # the layers that were put in are new


def _quanto(model: torch.nn.Module, kind: str, _: str) -> None:
    from optimum import quanto

    excluded = _EXCLUDED.get(type(model).__name__)
    quanto.quantize(model, weights=getattr(quanto, kind), exclude=excluded and list(excluded))
    quanto.freeze(model)


def _torchao(model: torch.nn.Module, kind: str, device: str) -> None:
    from torchao import quantization

    options: dict[str, Any] = {}
    if kind == "Int8DynamicActivationIntxWeightConfig":
        options["weight_dtype"] = torch.int4  # type: ignore[attr-defined]  # lacks in its stubs
    config = getattr(quantization, kind)(**options)
    # the trainer quantises all layers for training in int8, for the others only those that fit
    keep: Keep = _any_linear if kind == "Int8WeightOnlyConfig" else _fitting
    quantization.quantize_(model, config, filter_fn=keep, device=device)


def _any_linear(part: torch.nn.Module, _: str) -> bool:
    return isinstance(part, torch.nn.Linear)


def _fitting(part: torch.nn.Module, _: str) -> bool:
    sides = (part.in_features, part.out_features) if isinstance(part, torch.nn.Linear) else (1,)
    return all(side % _MULTIPLE == 0 for side in sides)


def _bitsandbytes(model: torch.nn.Module, kind: str, device: str) -> None:
    from bitsandbytes import nn

    for name, layer in [*model.named_modules()]:
        if type(layer) is not torch.nn.Linear:
            continue
        if device == "cpu" and layer.in_features % _BLOCK:
            continue
        sides = (layer.in_features, layer.out_features, layer.bias is not None)
        dtype = layer.weight.dtype
        stored = nn.Linear4bit(*sides, compute_dtype=dtype, quant_type=kind)
        stored.weight = nn.Params4bit(layer.weight.data, requires_grad=False, quant_type=kind)
        stored.bias = layer.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, stored.to(device))  # where it is quantised


_BY: Final = {"quanto": _quanto, "torchao": _torchao, "bitsandbytes": _bitsandbytes}
