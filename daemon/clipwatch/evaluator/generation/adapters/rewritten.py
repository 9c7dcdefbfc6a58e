"""Adapters whose change of the weights is computed here, and written in the weights' place.

It is for what LyCORIS does not take: forms that it cannot rebuild, and layers that are several in
diffusers. The base's own weights wait in host memory meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.generation.adapters.foreign import Joint
from clipwatch.evaluator.generation.adapters.formulas import changed
from clipwatch.evaluator.generation.adapters.modules import Tensors, unknown
from clipwatch.evaluator.generation.adapters.names import Names, naming, some
from clipwatch.evaluator.generation.embeddings import is_text_part

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN: Final = ("oft_R.weight", "lokr_t2")
"""Tensors of forms that LyCORIS cannot rebuild."""
_SD_SCRIPTS: Final = "oft_unet_"
"""Before the names in sd-scripts' OFT, whose number of blocks LyCORIS takes for their size."""


def is_ours(names: Names, modules: Mapping[str, Tensors]) -> bool:
    """Whether a file holds what LyCORIS does not take.

    Args:
        names: Of the pipeline's modules.
        modules: The file's tensors, as `modules_of` gives them.
    """
    return any(
        name.startswith(_SD_SCRIPTS)
        or any(leaf in tensors for leaf in _OWN)
        or (names.find(name) is None and names.join(name))
        for name, tensors in modules.items()
    )


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file holds for one layer, which may be several modules here."""

    component: str
    joint: Joint
    modules: tuple[Any, ...]
    originals: tuple[torch.nn.Parameter, ...]
    tensors: Tensors


class Rewritten:
    """An adapter in a pipeline, as weights of its own.

    Args:
        names: Of the pipeline's modules.
        modules: The file's tensors, as `modules_of` gives them.

    Raises:
        ValueError: Not all of it can be applied; then nothing of it is in the pipeline.
    """

    def __init__(self, names: Names, modules: Mapping[str, Tensors]) -> None:
        self._layers: list[Layer] = []
        self._strength = 0.0
        placed = _place(names, modules)
        try:
            for name, layer in placed.items():
                with naming(f"{layer.component}: {name}"):
                    self._layers.append(layer)
                    _write(layer, 1.0)
        except BaseException:
            self.remove()
            raise
        self._strength = 1.0

    @property
    def components(self) -> list[str]:
        """Name the pipeline's components that it is in."""
        return sorted({it.component for it in self._layers})

    def set_strength(self, strength: float) -> None:
        """Multiply the change of each of the denoiser's weights."""
        if strength == self._strength:
            return
        for layer in self._layers:
            if not is_text_part(layer.component):
                _write(layer, strength)
        self._strength = strength

    def remove(self) -> None:
        """Put the base's own weights back."""
        for layer in self._layers:
            for module, original in zip(layer.modules, layer.originals, strict=True):
                if module.weight is not original:
                    original.data = original.data.to(module.weight.device)
                    module.weight = original
        self._layers = []


def _place(names: Names, modules: Mapping[str, Tensors]) -> dict[str, Layer]:
    """Return by their names in the file the layers that it is for, none left out.

    Raises:
        ValueError: Some are for no module of the pipeline, two for the same, or for one whose
            weight is no plain one.
    """
    placed: dict[str, Layer] = {}
    for name, tensors in modules.items():
        if own := names.find(name):
            component, joint = own.component, Joint((own.path,))
        elif joint_or_none := names.join(name):
            component, joint = names.denoiser, joint_or_none
        else:
            continue
        model = names.models[component]
        parts = tuple(model.get_submodule(path) for path in joint.paths)
        weights: tuple[Any, ...] = tuple(getattr(it, "weight", None) for it in parts)
        for path, weight in zip(joint.paths, weights, strict=True):
            if type(weight) is not torch.nn.Parameter or not weight.is_floating_point():
                raise ValueError(f"{component}: {path} is quantised, or has no weight")
        placed[name] = Layer(component, joint, parts, weights, tensors)
    if lost := modules.keys() - placed.keys():
        raise unknown(lost, len(modules))
    paths = [(it.component, path) for it in placed.values() for path in it.joint.paths]
    if not paths or (twice := {".".join(it) for it in paths if paths.count(it) > 1}):
        raise ValueError(f"it holds twice {some(twice)}" if paths else "it holds nothing")
    return placed


@torch.no_grad()
def _write(layer: Layer, strength: float) -> None:
    """Give the modules of a layer the weights that they have at a strength.

    Raises:
        ValueError: The tensors do not fit them.
    """
    device = layer.modules[0].weight.device
    parts = [it.data.to(device, torch.float32) for it in layer.originals]
    tensors = {name: it.to(device, torch.float32) for name, it in layer.tensors.items()}
    whole = torch.cat(parts)
    base = _swapped(whole) if layer.joint.swapped else whole
    turned = base + strength * (changed(base, tensors) - base)
    turned = _swapped(turned) if layer.joint.swapped else turned
    pieces = torch.split(turned, [len(part) for part in parts])
    for module, original, piece in zip(layer.modules, layer.originals, pieces, strict=True):
        if module.weight is original:
            module.weight = torch.nn.Parameter(piece.to(original.dtype), requires_grad=False)
            original.data = original.data.cpu()
        else:  # in its place: what waits in host memory is known by its parameters
            module.weight.data.copy_(piece)


def _swapped(weight: torch.Tensor) -> torch.Tensor:
    return torch.cat(weight.chunk(2)[::-1])
