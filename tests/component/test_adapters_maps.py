"""Our maps of the names that transformers had elsewhere: those of diffusers' own converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import (
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    Lumina2Transformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from diffusers.loaders import single_file_utils as converters

import evaluator_kit as kit
from clipwatch.evaluator.generation.adapters.foreign import foreign_names

pytestmark = kit.QUIET

State = dict[str, torch.Tensor]


SAME = "context_embedder."  # of SD 3, in both


class Whole(dict[str, torch.Tensor]):
    """A file that has whatever a converter asks for: norms, which no adapter has."""

    def pop(self, name: str, *_: Any) -> torch.Tensor:
        """Take out a tensor, or a stand-in."""
        return super().pop(name, torch.zeros(2))


TWO: dict[str, Any] = {"num_layers": 2}
FAMILIES: dict[str, tuple[type[torch.nn.Module], dict[str, Any], Callable[..., State]]] = {
    "flux": (
        FluxTransformer2DModel,
        TWO | {"num_single_layers": 2, "guidance_embeds": True},
        converters.convert_flux_transformer_checkpoint_to_diffusers,
    ),
    "flux2": (
        Flux2Transformer2DModel,
        TWO | {"num_single_layers": 2},
        converters.convert_flux2_transformer_checkpoint_to_diffusers,
    ),
    "sd3": (
        SD3Transformer2DModel,
        TWO | {"dual_attention_layers": (0,), "num_attention_heads": 24},
        converters.convert_sd3_transformer_checkpoint_to_diffusers,
    ),
    "lumina": (Lumina2Transformer2DModel, TWO, converters.convert_lumina2_to_diffusers),
    "z_image": (
        ZImageTransformer2DModel,
        {"n_layers": 2, "n_refiner_layers": 2},
        converters.convert_z_image_transformer_checkpoint_to_diffusers,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_in_its_authors_names_becomes_diffusers(family: str) -> None:
    """Written by our map, layers in one piece and halves swapped, each row comes to its place."""
    kind, config, convert = FAMILIES[family]
    with init_empty_weights():
        model = kind(**config)
    shapes = {name: len(it) for name, it in model.state_dict().items() if it.dim()}
    # a column is enough: each row has a number of its own
    rows = {
        name: torch.arange(count).float()[:, None] + 1e5 * number
        for number, (name, count) in enumerate(shapes.items())
    }
    names = foreign_names(kind.__name__, [path for path, _ in model.named_modules()])
    file = Whole({name: it.clone() for name, it in rows.items() if name.startswith(SAME)})
    mapped: set[str] = set()
    for name, joint in names.items():
        for part in ("weight", "bias"):
            paths = [f"{path}.{part}" for path in joint.paths]
            if rows.keys() >= set(paths):
                whole = torch.cat([rows[path] for path in paths])
                file[f"{name}.{part}"] = torch.cat(whole.chunk(2)[::-1]) if joint.swapped else whole
                mapped |= set(paths)
    found = convert(file)
    assert len(mapped) > 20
    wrong = [name for name in mapped if not torch.equal(found[name], rows[name])]
    assert not wrong
