"""LyCORIS networks, applied as SimpleTuner does: beside the base's layers, never merged into them.

`merge_to` of lycoris-lora 4.1.3 takes alpha/rank twice for LoHa and some LoKr; `apply_to` does not.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.failures import one_line
from clipwatch.evaluator.generation.adapters.lora import ADAPTER
from clipwatch.evaluator.generation.adapters.modules import Tensors, unknown
from clipwatch.evaluator.generation.adapters.names import Names, Place, flat, naming, some
from clipwatch.evaluator.generation.embeddings import is_text_part
from clipwatch.layouts.adapter_file import lycoris_config

if TYPE_CHECKING:
    from collections.abc import Mapping

# its compiled and fused kernels are chosen by what is installed and by timing, and round otherwise
os.environ["LYCORIS_KERNEL_BACKEND"] = "torch"

from lycoris import create_lycoris_from_weights
from lycoris.modules import (
    FullModule,
    GLoRAModule,
    IA3Module,
    LoConModule,
    LohaModule,
    LokrModule,
    NormModule,
)

logging.getLogger("LyCORIS").setLevel(logging.WARNING)

_ONLY_WEIGHTS: Final = (FullModule, NormModule)
_ALIKE: Final = (LoConModule, LohaModule, LokrModule, GLoRAModule)
"""They add the same to an answer as to a weight, unless they set magnitudes."""

_DORA: Final = "dora_scale"
_SCALARS: Final = ("alpha", "on_input")


class Lycoris:
    """LyCORIS networks in a pipeline, one in each component.

    Args:
        names: Of the pipeline's modules.
        modules: The file's tensors, as `modules_of` gives them.
        metadata: Of the file.

    Raises:
        ValueError: Not all of it can be applied; then nothing of it is in the pipeline.
    """

    def __init__(
        self, names: Names, modules: Mapping[str, Tensors], metadata: Mapping[str, str]
    ) -> None:
        self._networks: dict[str, Any] = {}
        self._models = names.models
        placed = _place(names, modules)
        # LyCORIS reads a switch so
        bypass = str(lycoris_config(metadata).get("bypass_mode", False)).lower() != "false"
        try:
            for component in sorted({it.component for it in placed}):
                layers = {it.path: own for it, own in placed.items() if it.component == component}
                with naming(component):
                    model = names.models[component]
                    self._networks[component] = _put_in(model, layers, bypass=bypass)
        except BaseException:
            self.remove()
            raise

    @property
    def components(self) -> list[str]:
        """Name the pipeline's components that it is in."""
        return list(self._networks)

    def set_strength(self, strength: float) -> None:
        """Multiply what it adds to the denoiser, as SimpleTuner does."""
        for component, network in self._networks.items():
            if not is_text_part(component):
                network.set_multiplier(strength)

    def remove(self) -> None:
        """Give the base's layers back their own ways and weights."""
        for component, network in self._networks.items():
            _take_out(self._models[component], network)
        self._networks = {}


def _place(names: Names, modules: Mapping[str, Tensors]) -> dict[Place, Tensors]:
    """Return the tensors of a file by the modules that they are for, none left out.

    Raises:
        ValueError: Some are for no module of the pipeline, or two for the same.
    """
    found = {name: names.find(name) for name in modules}
    if lost := {name for name, it in found.items() if it is None}:
        raise unknown(lost, len(modules))
    placed = {it: modules[name] for name, it in found.items() if it is not None}
    if not placed or len(placed) < len(modules) or not all(map(names.alone, placed)):
        raise ValueError("it holds nothing, or two of its modules are one in the base model")
    return placed


def _put_in(model: torch.nn.Module, layers: Mapping[str, Tensors], *, bypass: bool) -> Any:
    """Return a network that acts on a model's modules and stands among its parts.

    Raises:
        ValueError: LyCORIS does not rebuild all of it.
    """
    state = {
        f"lycoris_{flat(path)}.{leaf}": tensor
        for path, tensors in layers.items()
        if "on_input" not in tensors
        for leaf, tensor in tensors.items()
        if leaf != _DORA or not _of_inputs(tensor)
    }
    try:
        network, _ = create_lycoris_from_weights(1.0, "", model, weights_sd=state)
    except Exception as error:  # whatever its guesses at factors and ranks run into
        raise ValueError(f"LyCORIS cannot rebuild it: {one_line(error)}") from error
    made = {module.lora_name: module for module in network.loras}
    for path, tensors in layers.items():
        name = f"lycoris_{flat(path)}"
        if "on_input" in tensors:
            made[name] = _ia3(name, model.get_submodule(path), tensors)
        elif name in made and _DORA in tensors and _of_inputs(tensors[_DORA]):
            _decompose_inputs(made[name], tensors[_DORA])
    if strange := {path for path in layers if not _rebuilt(made, path)}:
        raise ValueError(f"LyCORIS cannot rebuild {some(strange)}")
    network.loras = list(made.values())
    for path in layers:
        _choose_way(path, made[f"lycoris_{flat(path)}"], bypass=bypass)
    base = next(it for it in model.parameters() if it.is_floating_point())
    try:
        network.apply_to()
        _check_whole(network, layers)
        network.to(base.device, base.dtype).eval().requires_grad_(requires_grad=False)
        model.add_module(ADAPTER, network)  # it goes where its model goes
    except BaseException:
        _take_out(model, network)
        raise
    return network


def _choose_way(path: str, module: Any, *, bypass: bool) -> None:
    """Have a module act as the trainer's did, or as it can on a quantised layer.

    Most add to the layer's weight. With bypass_mode they add to its answer, where DoRA does
    nothing and OFT turns the bias, too: so does the trainer's picture. A weight in few bits takes
    no addition; of quanto's and bitsandbytes' layers LyCORIS knows that itself, in training as
    well.

    Raises:
        ValueError: It would do something else on a quantised layer.
    """
    weight = module.org_module[0].weight
    plain = type(weight) in {torch.nn.Parameter, torch.Tensor} and weight.is_floating_point()
    if bypass and not isinstance(module, _ONLY_WEIGHTS):
        module.bypass_mode = True
    elif not plain:
        alike = module.bypass_mode or isinstance(module, _ALIKE)
        own_layers = isinstance(module, GLoRAModule) and module.isconv  # of the quantised class
        if getattr(module, "wd", False) or own_layers or not alike:
            raise ValueError(f"{type(module).__name__} cannot act on {path}, which is quantised")
        module.bypass_mode = True


def _take_out(model: torch.nn.Module, network: Any) -> None:
    """Undo `_put_in`, also half of it."""
    model._modules.pop(ADAPTER, None)  # noqa: SLF001 - there is no public way
    device = next(it.device for it in model.parameters())
    network.restore()
    for module in network.loras:
        original = module.org_module[0]
        if getattr(original.forward, "__func__", None) is type(original).forward:
            vars(original).pop("forward", None)
        original.to(device)  # what LyCORIS replaced as a whole, it kept in host memory


def _ia3(name: str, original: torch.nn.Module, tensors: Tensors) -> IA3Module:
    """Return (IA)^3 for a module, which LyCORIS cannot make from weights itself."""
    module = IA3Module(name, original, train_on_input=bool(tensors["on_input"]))
    if module.weight.shape != tensors["weight"].shape:
        raise ValueError(
            f"{name} has {list(tensors['weight'].shape)} for {list(module.weight.shape)}"
        )
    module.weight.data.copy_(tensors["weight"])
    return module


def _of_inputs(scale: torch.Tensor) -> bool:
    """Whether a DoRA's magnitudes are those of the inputs (wd_on_output: false)."""
    return scale.dim() > 1 and scale.shape[0] == 1 < scale.shape[1]


def _decompose_inputs(module: Any, scale: torch.Tensor) -> None:
    """Make a module a DoRA on its inputs, which LyCORIS does not tell from one on its outputs."""
    module.wd, module.wd_on_out = True, False
    module.dora_norm_dims = scale.dim() - 1
    module.dora_scale = torch.nn.Parameter(scale.float())


def _rebuilt(made: Mapping[str, Any], path: str) -> bool:
    module = made.get(f"lycoris_{flat(path)}")
    return module is not None and not module.not_supported


def _check_whole(network: Any, layers: Mapping[str, Tensors]) -> None:
    """Make sure that every tensor of the file is in the network, in its own shape.

    Raises:
        ValueError: One is not.
    """
    inside = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    lost = {
        f"{path}.{leaf}"
        for path, tensors in layers.items()
        for leaf, tensor in tensors.items()
        if (shape := inside.get(f"lycoris_{flat(path)}.{leaf}")) is None
        or (leaf not in _SCALARS and shape != tuple(tensor.shape))
    }
    if lost:
        raise ValueError(f"LyCORIS has made other shapes of {some(lost)}")
