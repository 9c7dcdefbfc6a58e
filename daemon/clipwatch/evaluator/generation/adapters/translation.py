"""The names of other trainers' LoRAs, translated by diffusers without a loss.

diffusers knows how FLUX, SDXL and others were named before they came to it, and splits or joins
their layers. What it does not know, it leaves out here and there without a word: so it translates a
twin first, each of whose tensors can be told from the others wherever it comes out.
"""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.failures import one_line
from clipwatch.evaluator.generation.adapters.names import some
from clipwatch.layouts.adapter_file import lora_part

if TYPE_CHECKING:
    from collections.abc import Mapping

State = dict[str, torch.Tensor]

_ALPHA: Final = "alpha"
_FACTOR: Final = 4.0
"""A square, as it may come out shared between both halves of a pair."""


def translate(pipeline: Any, state: Mapping[str, torch.Tensor]) -> State:
    """Return a LoRA's tensors under diffusers' names, its alphas among them or worked in.

    Args:
        pipeline: Its class decides what is known.
        state: Names that `lora_part` splits.

    Raises:
        ValueError: diffusers cannot translate them, or loses some.
    """
    parts = {name: lora_part(name) or ("", "") for name in state}
    strange = some({module for module, _ in parts.values()})
    known = f"{type(pipeline).__name__} has not {strange} under these names"
    if not hasattr(pipeline, "lora_state_dict"):
        raise ValueError(known)
    ranks = {
        module: state[name].shape[0] for name, (module, part) in parts.items() if part == "down"
    }
    marks = {name: number for number, name in enumerate(state, start=1)}
    try:
        plain, scaled = (
            _by_diffusers(pipeline, _twin(state, marks, ranks, factor)) for factor in (1, _FACTOR)
        )
        found = _by_diffusers(pipeline, state)
    except Exception as error:  # whatever its converters stumble over
        raise ValueError(f"{known}, nor can diffusers translate them: {one_line(error)}") from error
    _check_all(plain, marks)
    if all(f"{module}.{_ALPHA}" in state for module in ranks):
        _check_scale(plain, scaled)
    return found


def _twin(
    state: Mapping[str, torch.Tensor], marks: dict[str, int], ranks: dict[str, int], factor: float
) -> State:
    """Return tensors of the same shapes, each filled with its mark; alphas are `factor` x rank."""
    twin = {}
    for name, tensor in state.items():
        module, part = lora_part(name) or ("", "")
        value = factor * ranks.get(module, 1) if part == _ALPHA else float(marks[name])
        twin[name] = torch.full(tensor.shape, value)
    return twin


def _by_diffusers(pipeline: Any, state: Mapping[str, torch.Tensor]) -> State:
    config = {"unet_config": pipeline.unet.config} if "unet" in pipeline.components else {}
    found = pipeline.lora_state_dict(dict(state), **config)
    alphas: Mapping[str, Any] = {}
    if isinstance(found, tuple):
        found, alphas = found[0], found[1] or {}
    told = {
        f"{_module(name.removesuffix(f'.{_ALPHA}'))}.{_ALPHA}": torch.as_tensor(float(value))
        for name, value in alphas.items()
    }
    return {**found, **told}


def _module(name: str) -> str:
    """Return a module's name where an alpha is named after one of its tensors."""
    part = lora_part(name)
    return part[0] if part else name


def _check_all(plain: State, marks: Mapping[str, int]) -> None:
    """Make sure that every tensor but the alphas came out.

    Raises:
        ValueError: Some did not.
    """
    seen = {int(mark) for it in plain.values() if it.dim() for mark in set(it.flatten().tolist())}
    parts = {name: lora_part(name) or ("", "") for name in marks}
    weights = {name: module for name, (module, part) in parts.items() if part != _ALPHA}
    if lost := {module for name, module in weights.items() if marks[name] not in seen}:
        total = len(set(weights.values()))
        raise ValueError(f"of {total} modules diffusers leaves out {some(lost)}")


def _check_scale(plain: State, scaled: State) -> None:
    """Make sure that the alphas act on every module: in its tensors, or beside them.

    Raises:
        ValueError: They do not.
    """
    ratios: dict[str, float] = {}
    for name, tensor in plain.items():
        part = lora_part(name)
        if part is not None:
            ratio = float(scaled[name].abs().max() / tensor.abs().max())
            ratios[part[0]] = ratios.get(part[0], 1.0) * ratio
    if wrong := {module for module, ratio in ratios.items() if not isclose(ratio, _FACTOR)}:
        raise ValueError(f"diffusers leaves out the alpha of {some(wrong)}")
