"""The average of LoRAs: of the changes that they make, not of their halves.

The average of B A is not that of B times that of A. It is written without loss,

    sum of w_i s_i B_i A_i  =  [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...],

with s_i a LoRA's own scale (alpha over rank). So ranks add up, and the blend's own scale is 1: that
is what a program takes that reads no alpha.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from clipwatch.layouts.adapter_file import METADATA_KEY, acting, adapter_config, lora_part
from clipwatch.layouts.contents import ENCODERS
from clipwatch.layouts.files import Unsupported
from clipwatch.layouts.pipeline_parts import DENOISERS
from clipwatch.tasks.tensorfile import Made, TensorFile, as_bytes

_DOWN, _UP, _BIAS, _ALPHA = "down", "up", "bias", "alpha"


class Lora:
    """A LoRA's file.

    Args:
        file: All of it.
        config: PEFT's beside it, "" for none; its metadata go before that.
        alpha: Where nothing tells one; None for the rank.

    Raises:
        ValueError: It holds something else, too, or its config is none.
    """

    def __init__(self, file: TensorFile, config: str, alpha: float | None) -> None:
        self.file, self._alpha = file, alpha
        try:
            told = {METADATA_KEY: config} if config else {}
            self._config = adapter_config({**told, **file.metadata})
        except Unsupported as error:
            raise ValueError(str(error)) from error
        self.modules: dict[str, dict[str, str]] = {}
        for name in acting(file.entries):
            module, part = lora_part(name) or ("", "")
            if part not in (_DOWN, _UP, _BIAS, _ALPHA):
                what = "a DoRA" if part else "more than a LoRA"
                raise ValueError(f"it is {what} ({name}), which is not averaged")
            self.modules.setdefault(module, {})[part] = name
        for module, parts in self.modules.items():
            if not {_DOWN, _UP} <= parts.keys():
                raise ValueError(f"it holds only half of {module}")
            if not all(file.entries[parts[it]].shape[1:] for it in (_DOWN, _UP)):
                raise ValueError(f"{module} is no product of two matrices")

    def tells_none(self, module: str) -> bool:
        """Whether only a setting tells a module's alpha."""
        return self._alpha is not None and "lora_alpha" not in self._own(_component(module))

    def rank(self, module: str) -> int:
        """Return the inner dimension of a module."""
        return self.file.entries[self.modules[module][_DOWN]].shape[0]

    def scale(self, module: str) -> float:
        """Return by what a module's B A is multiplied, as the evaluator does (see its `lora`)."""
        rank, component = self.rank(module), _component(module)
        if not rank:
            raise ValueError(f"{module} is of rank 0")
        own = self._own(component)
        alpha = float(rank)
        if tensor := self.modules[module].get(_ALPHA):
            alpha = float(self.file.floats(tensor).reshape(-1)[0])
        else:
            alpha = _told(own, module, self._alpha if self._uniform(component) else None) or alpha
        return alpha / (math.sqrt(rank) if own.get("use_rslora") else rank)

    def _own(self, component: str) -> dict[str, Any]:
        """Return the part of the config that speaks of a component."""
        return {
            key.removeprefix(f"{component}."): it
            for key, it in self._config.items()
            if component and key.startswith(f"{component}.")
        } or {key: it for key, it in self._config.items() if "." not in key}

    def _uniform(self, component: str) -> bool:
        return len({self.rank(it) for it in self.modules if _component(it) == component}) == 1


def average(loras: Sequence[Lora], shares: Sequence[float]) -> tuple[dict[str, Made], int]:
    """Return the tensors of the average, by the names that the last one has, and its rank.

    Modules whose alpha no tensor tells have the same rank, filled up with zeros: a config tells one
    for all.

    Raises:
        ValueError: They are not for the same modules, or of other shapes.
    """
    last = loras[-1]
    for other in loras:
        if odd := sorted(other.modules.keys() ^ last.modules.keys()):
            raise ValueError(f"{other.file.path} is not for the same modules, as {odd[0]}")
    sums = {module: sum(it.rank(module) for it in loras) for module in last.modules}
    free = [sums[it] for it, parts in last.modules.items() if _ALPHA not in parts]
    common = max(free or sums.values(), default=1)
    acts = {name for parts in last.modules.values() for name in parts.values()}
    found = {
        name: Made(it.dtype, it.shape, partial(last.file.raw, name))
        for name, it in last.file.entries.items()
        if name not in acts
    }
    for module, parts in last.modules.items():
        rank = sums[module] if _ALPHA in parts else common
        scales = [share * it.scale(module) for share, it in zip(shares, loras, strict=True)]
        found |= _module(loras, module, rank, scales)
    return found, common


def retold(text: str, rank: int) -> str:
    """Return a LoraConfig with the blend's rank, a scale of 1, and no exceptions."""
    try:
        config = json.loads(text)
    except RecursionError as error:
        raise ValueError("its LoraConfig is no LoraConfig") from error
    if not isinstance(config, dict):
        raise ValueError("its LoraConfig is no object")  # noqa: TRY004 - told as others are
    for key in config:
        match key.rpartition(".")[2]:
            case "r" | "lora_alpha":
                config[key] = rank
            case "rank_pattern" | "alpha_pattern":
                config[key] = {}
            case "use_rslora":
                config[key] = False
    return json.dumps(config, indent=2)


def _module(
    loras: Sequence[Lora], module: str, rank: int, scales: Sequence[float]
) -> dict[str, Made]:
    """Return the tensors of one module."""
    last = loras[-1]
    parts, entries = last.modules[module], last.file.entries
    down, up = entries[parts[_DOWN]], entries[parts[_UP]]
    for other in loras:
        theirs = [other.file.entries[other.modules[module][it]].shape for it in (_DOWN, _UP)]
        fits = theirs[0][1:] == down.shape[1:] and theirs[1][:1] == up.shape[:1]
        inner = theirs[1][1:] == (theirs[0][0], *up.shape[2:])
        if not (fits and inner and other.modules[module].keys() == parts.keys()):
            raise ValueError(f"{module} is of another shape in {other.file.path}")

    def joined(part: str, axis: int, shape: tuple[int, ...], by: Sequence[float]) -> bytes:
        tensors = [it.file.floats(it.modules[module][part]) for it in loras]
        scaled = [np.float32(factor) * it for factor, it in zip(by, tensors, strict=True)]
        lacks = [(0, size - have) for size, have in zip(shape, _joined(scaled, axis), strict=True)]
        return as_bytes(np.pad(np.concatenate(scaled, axis), lacks), entries[parts[part]].dtype)

    downs, ups = (rank, *down.shape[1:]), (up.shape[0], rank, *up.shape[2:])
    ones = [1.0] * len(loras)
    found = {
        parts[_DOWN]: Made(down.dtype, downs, partial(joined, _DOWN, 0, downs, ones)),
        parts[_UP]: Made(up.dtype, ups, partial(joined, _UP, 1, ups, scales)),
    }
    if name := parts.get(_BIAS):
        entry = entries[name]

        def bias() -> bytes:
            each = (it.file.floats(it.modules[module][_BIAS]) for it in loras)
            total = sum(np.float32(by) * it for by, it in zip(scales, each, strict=True))
            return as_bytes(np.asarray(total, np.float32), entry.dtype)

        found[name] = Made(entry.dtype, entry.shape, bias)
    if name := parts.get(_ALPHA, f"{module}.alpha" if last.tells_none(module) else ""):
        value = np.full(entries[name].shape if name in entries else (), rank, np.float32)
        found[name] = Made("F32", value.shape, partial(as_bytes, value, "F32"))  # bfloat16 rounds
    return found


def _joined(tensors: Sequence[Any], axis: int) -> list[int]:
    shape = list(tensors[0].shape)
    shape[axis] = sum(it.shape[axis] for it in tensors)
    return shape


def _told(config: Mapping[str, Any], module: str, general: float | None) -> float | None:
    """Return the alpha that a LoraConfig tells of a module; a pattern as PEFT reads it.

    Raises:
        ValueError: The config is not as PEFT writes it.
    """
    try:
        for pattern, alpha in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                return float(alpha)
        told = config.get("lora_alpha", general)
        return None if told is None else float(told)
    except (AttributeError, TypeError, re.error) as error:
        raise ValueError(f"its LoraConfig tells no alpha: {error}") from error


def _component(module: str) -> str:
    """Return which component's name stands before a module's, "" for none."""
    first = module.partition(".")[0]
    return first if first in (*DENOISERS, *ENCODERS) else ""
