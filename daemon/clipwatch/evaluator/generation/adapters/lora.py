"""LoRA and DoRA, as PEFT's layers around those of the base: all modules of a file, or none."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from clipwatch.evaluator.generation.adapters.names import Names, Place, naming, some
from clipwatch.evaluator.generation.adapters.translation import translate
from clipwatch.evaluator.generation.embeddings import is_text_part
from clipwatch.layouts.adapter_file import adapter_config, lora_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ADAPTER: Final = "clipwatch"
_PLAIN: Final = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


class Layer(NamedTuple):
    """What a file holds for one module; `alpha` is None where it tells none."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float | None
    magnitude: torch.Tensor | None
    bias: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """The inner dimension of the pair."""
        return self.down.shape[0]


Layers = dict[str, Layer]
"""By path in a model."""


class Lora:
    """A LoRA in a pipeline.

    Args:
        names: Of the pipeline's modules.
        pipeline: Holds no other adapter.
        state: The file's tensors, whose names `lora_part` splits.
        metadata: Of the file.
        alpha: Where the file tells none; None for the rank.

    Raises:
        ValueError: Not all of it can be applied; then nothing of it is in the pipeline.
    """

    def __init__(
        self,
        names: Names,
        pipeline: Any,
        state: Mapping[str, torch.Tensor],
        metadata: Mapping[str, str],
        alpha: float | None,
    ) -> None:
        placed = place(names, pipeline, state)
        config = adapter_config(metadata)
        self._models: dict[str, torch.nn.Module] = {}
        self._denoising: list[Any] = []
        try:
            for component in sorted({it.component for it in placed}):
                layers = {it.path: own for it, own in placed.items() if it.component == component}
                theirs = _of(component, config)
                self._models[component] = names.models[component]
                with naming(component):
                    _put_in(names.models[component], with_alphas(layers, theirs, alpha), theirs)
        except BaseException:
            self.remove()
            raise
        for component, model in self._models.items():
            if not is_text_part(component):
                self._denoising += [layer for _, layer in _layers_in(model)]

    @property
    def components(self) -> list[str]:
        """Name the pipeline's components that it is in."""
        return list(self._models)

    def set_strength(self, strength: float) -> None:
        """Multiply what it adds to the denoiser, as PEFT's `set_scale` does: beside alpha/r."""
        for layer in self._denoising:
            layer.set_scale(ADAPTER, strength)

    def remove(self) -> None:
        """Put the base's own modules, which were never changed, back into their places."""
        for model in self._models.values():
            for path, layer in list(_layers_in(model)):
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, layer.base_layer)
            vars(model).pop("peft_config", None)
        self._models, self._denoising = {}, []


def place(names: Names, pipeline: Any, state: Mapping[str, torch.Tensor]) -> dict[Place, Layer]:
    """Return the layers of a file by the modules that they are for, none left out.

    Raises:
        ValueError: Some are for no module of the pipeline, or two for the same.
    """
    placed, lost = layers_of(names, state)
    for name in [name for name in lost if names.join(name)]:
        parts = _split(names, name, lost.pop(name))
        if twice := placed.keys() & parts.keys():
            raise ValueError(f"it holds twice {some({it.path for it in twice})}")
        placed |= parts
    if lost:
        theirs = {name: it for name, it in state.items() if (lora_part(name) or "")[0] in lost}
        more, strange = layers_of(names, translate(pipeline, theirs))
        if strange:
            raise ValueError(
                f"of {len(placed) + len(lost)} modules the base model has not {some(strange)} under"
                " any name that is known"
            )
        if twice := placed.keys() & more.keys():
            raise ValueError(f"it holds twice {some({it.path for it in twice})}")
        # alphas that do not come back were worked in: what is left is as strong as it shall be
        if any(layer.alpha is not None for layer in lost.values()):
            more = {it: own._replace(alpha=own.alpha or own.rank) for it, own in more.items()}
        placed |= more
    if not placed:
        raise ValueError("it holds nothing")
    return placed


def layers_of(
    names: Names, state: Mapping[str, torch.Tensor]
) -> tuple[dict[Place, Layer], dict[str, Layer]]:
    """Join the tensors of each module: by module, and by name those that mean none.

    Raises:
        ValueError: One lacks its other half, or is there twice.
    """
    found: dict[Place | str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        module, part = lora_part(name) or (name, "")
        parts = found.setdefault(names.find(module) or module, {})
        if not part or part in parts:
            raise ValueError(f"{ascii(name)[1:-1]} is no part of a LoRA, or there twice")
        parts[part] = tensor
    if halves := {key for key, parts in found.items() if not {"down", "up"} <= parts.keys()}:
        told = {key if isinstance(key, str) else ".".join(key) for key in halves}
        raise ValueError(f"it holds only half of {some(told)}")
    layers = {
        key: Layer(
            parts["down"],
            parts["up"],
            float(parts["alpha"]) if "alpha" in parts else None,
            parts.get("magnitude"),
            parts.get("bias"),
        )
        for key, parts in found.items()
    }
    return (
        {key: layer for key, layer in layers.items() if isinstance(key, Place)},
        {key: layer for key, layer in layers.items() if isinstance(key, str)},
    )


def _split(names: Names, name: str, layer: Layer) -> dict[Place, Layer]:
    """Return by module the parts of a layer that is several in the base model.

    Raises:
        ValueError: It has not as many outputs as they have.
    """
    joint = names.join(name)
    model = names.models[names.denoiser]
    paths = joint.paths if joint else ()
    sizes = [_outputs(model.get_submodule(path)) for path in paths]
    if sum(sizes) != len(layer.up):
        raise ValueError(f"{name} has {len(layer.up)} outputs for {sum(sizes)}")

    def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
        swapped = joint is not None and joint.swapped
        return list(torch.split(torch.cat(tensor.chunk(2)[::-1]) if swapped else tensor, sizes))

    ups = parts(layer.up)
    none = [None] * len(ups)
    magnitudes = none if layer.magnitude is None else parts(layer.magnitude)
    biases = none if layer.bias is None else parts(layer.bias)
    return {
        Place(names.denoiser, path): layer._replace(up=up, magnitude=magnitude, bias=bias)
        for path, up, magnitude, bias in zip(paths, ups, magnitudes, biases, strict=True)
    }


def _outputs(layer: Any) -> int:
    """Return how many outputs a layer has, also where its weight is packed in few bits."""
    count = getattr(layer, "out_features", None)
    return len(layer.weight) if count is None else int(count)


def with_alphas(layers: Layers, config: Mapping[str, Any], alpha: float | None) -> Layers:
    """Return the layers of a component with an alpha each.

    It is that of the file: of its tensors, else of its metadata. Else it is `alpha`, or the rank:
    where ranks differ always the rank, as SimpleTuner takes it then.
    """
    from peft.utils.other import get_pattern_key

    uniform = len({layer.rank for layer in layers.values()}) == 1
    general = config.get("lora_alpha", alpha if uniform else None)
    pattern = config.get("alpha_pattern") or {}
    found = {}
    for path, layer in layers.items():
        told = pattern.get(get_pattern_key(list(pattern), path), general)
        own = layer.alpha if layer.alpha is not None else told
        found[path] = layer._replace(alpha=float(layer.rank if own is None else own))
    return found


def _of(component: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a file's LoraConfig that speaks of a component."""
    prefix = f"{component}."
    own = {key.removeprefix(prefix): it for key, it in config.items() if key.startswith(prefix)}
    return own or {key: it for key, it in config.items() if "." not in key}


def _put_in(model: torch.nn.Module, layers: Layers, config: Mapping[str, Any]) -> None:
    """Put PEFT's layers around a model's modules.

    Nothing of the file's LoraConfig is taken but what scales: its dropout would make noise, and
    some of its ways to begin change the base.
    """
    from peft import LoraConfig, inject_adapter_in_model

    ranks = Counter(layer.rank for layer in layers.values())
    common = ranks.most_common(1)[0][0]
    decomposed = {layer.magnitude is not None for layer in layers.values()}
    if len(decomposed) > 1:
        raise ValueError("some of its modules are DoRA, others LoRA")
    theirs = {
        f"^{_only(path for path, it in layers.items() if it.rank == rank)}": rank
        for rank in ranks
        if rank != common
    }
    settings = LoraConfig(
        r=common,
        lora_alpha=common,
        target_modules=_only(layers),
        lora_dropout=0.0,
        init_lora_weights=False,
        rank_pattern=theirs,
        use_dora=decomposed.pop(),
        use_rslora=bool(config.get("use_rslora")),
    )
    inject_adapter_in_model(settings, model, ADAPTER)
    found = dict(_layers_in(model))
    if missing := layers.keys() ^ found.keys():
        raise ValueError(f"PEFT has not adapted {some(missing)}")
    dtype = next(it.dtype for it in model.parameters() if it.is_floating_point())
    with torch.no_grad():
        for path, layer in layers.items():
            _fill(path, found[path], layer, dtype)
    model.eval()  # PEFT's layers come in training mode


def _fill(path: str, into: Any, layer: Layer, dtype: torch.dtype) -> None:
    """Give a layer of PEFT the tensors of a file."""
    pairs = [
        ("lora_A", into.lora_A[ADAPTER], layer.down),
        ("lora_B", into.lora_B[ADAPTER], layer.up),
    ]
    if layer.magnitude is not None:
        pairs.append(("magnitude", into.lora_magnitude_vector[ADAPTER], layer.magnitude))
    for name, part, tensor in pairs:
        if type(part) is type(into.base_layer) not in _PLAIN:
            # PEFT makes its convolutions of the layer's own class, and quanto's need a weight
            raise ValueError(f"PEFT cannot adapt {path}, which is a {type(part).__name__}")
        if _size(part.weight) != _size(tensor):
            raise ValueError(
                f"{path}.{name} has {list(tensor.shape)} for {list(part.weight.shape)}"
            )
        if not into.base_layer.weight.is_floating_point():  # quantised: PEFT leaves it in float32
            part.to(dtype)
        part.weight.copy_(tensor.reshape(part.weight.shape))
    if layer.bias is not None:
        if layer.magnitude is not None or len(layer.bias) != len(layer.up):
            raise ValueError(f"{path}.lora_B.bias is of a DoRA, or {list(layer.bias.shape)}")
        half = into.lora_B[ADAPTER]
        half.bias = torch.nn.Parameter(layer.bias.to(half.weight), requires_grad=False)
    into.lora_alpha[ADAPTER] = layer.alpha
    into.set_scale(ADAPTER, 1.0)


def _layers_in(model: torch.nn.Module) -> Iterable[tuple[str, Any]]:
    """Yield the paths of PEFT's layers in a model, and these."""
    from peft.tuners.lora import LoraLayer

    return ((path, it) for path, it in model.named_modules() if isinstance(it, LoraLayer))


def _only(paths: Iterable[str]) -> str:
    """Return a pattern that matches these and nothing else."""
    return f"(?:{'|'.join(map(re.escape, paths))})"


def _size(tensor: torch.Tensor) -> list[int]:
    """Leave out last dimensions of 1: a layer may be a convolution over single points."""
    shape = list(tensor.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    return shape
