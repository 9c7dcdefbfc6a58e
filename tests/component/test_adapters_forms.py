"""Every form in which kohya and OneTrainer save a layer: its weight changes as computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import evaluator_kit as kit
import tiny_families
from adapter_kit import weight_of
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.evaluator.generation.adapters.rewritten import Rewritten
from trained_forms import EVERYWHERE, TUCKER, State, by_hand, drawn, trained

pytestmark = kit.QUIET

EXACT = 1e-6


@pytest.fixture(scope="module")
def sd() -> Any:
    torch.manual_seed(0)
    return tiny_families.stable_diffusion()


@pytest.fixture(scope="module")
def flux() -> Any:
    torch.manual_seed(0)
    return tiny_families.flux()


def flattened(layers: Mapping[str, State]) -> State:
    return {
        f"{name}.{leaf}": it for name, tensors in layers.items() for leaf, it in tensors.items()
    }


# --- a UNet --------------------------------------------------------------------------------------

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
POINT, NINE = "mid_block.attentions.0.proj_in", "mid_block.resnets.0.conv1"
SGM = {
    LINEAR: "middle_block_1_transformer_blocks_0_attn1_to_q",
    POINT: "middle_block_1_proj_in",
    NINE: "middle_block_0_in_layers_2",
}


def saved(path: Path, form: str, layers: Mapping[str, State]) -> Path:
    """Write a file as its trainer does."""
    onetrainer = {"ot_revision": "23df383"} if "OneTrainer" in form else None
    state = {name: it.clone().contiguous() for name, it in flattened(layers).items()}
    save_file(state, path, onetrainer)
    return path


@pytest.mark.parametrize("form", [*EVERYWHERE, *TUCKER, "loha of OneTrainer"])
@pytest.mark.parametrize("names", ["diffusers", "sgm"])
@pytest.mark.thorough(but=8)
def test_every_form_of_kohya_and_onetrainer(sd: Any, tmp_path: Path, form: str, names: str) -> None:
    """Linear layers and convolutions of a UNet, in both of the names that trainers give it."""
    unet = sd.unet
    paths = [NINE] if form in TUCKER else [LINEAR, POINT, NINE]  # points are no Tucker's
    paths = [LINEAR, POINT] if form == "loha of OneTrainer" else paths
    before = {path: unet.get_submodule(path).weight.detach().clone() for path in paths}
    trainer = "oft_unet_" if form == "oft of sd-scripts" else "lora_unet_"
    called = {
        path: trainer + (SGM[path] if names == "sgm" else path.replace(".", "_")) for path in paths
    }
    layers = {called[path]: trained(form, before[path], n) for n, path in enumerate(paths)}
    path = saved(tmp_path / "a.safetensors", form, layers)
    measured = {path: weight_of(unet, path) for path in paths}
    adapter = adapters.apply(sd, path, alpha=None)
    after = {path: weight_of(unet, path) for path in paths}
    adapter.remove()
    for path_, weight in before.items():
        expected = by_hand(form, weight, layers[called[path_]]) - weight
        assert expected.abs().max() > 0.01
        change = after[path_].double() - measured[path_].double()
        assert (change - expected).abs().max() <= EXACT, path_
        assert torch.equal(unet.get_submodule(path_).weight, weight)


# --- layers that are several in diffusers --------------------------------------------------------

BLOCK = "transformer_blocks.0.attn"
QKV = [f"{BLOCK}.{it}" for it in ("to_q", "to_k", "to_v")]


@pytest.mark.parametrize("form", EVERYWHERE)
@pytest.mark.parametrize("name", ["lora_unet_double_blocks_0_", "diffusion_model.double_blocks.0."])
@pytest.mark.thorough(but=4)
def test_a_layer_that_is_several_here(flux: Any, tmp_path: Path, form: str, name: str) -> None:
    """It changes as the one layer that it was in training, and each part gets its rows of that."""
    model = flux.transformer
    layer = f"{name}img_attn_qkv" if name.startswith("lora") else f"{name}img_attn.qkv"
    before = torch.cat([model.get_submodule(path).weight.detach().clone() for path in QKV])
    tensors = trained(form, before, 1)
    path = saved(tmp_path / "a.safetensors", form, {layer: tensors})
    expected = by_hand(form, before, tensors) - before
    assert expected.abs().max() > 0.01
    adapter = adapters.apply(flux, path, alpha=None)
    for strength in (1.0, 0.3, 0.0):
        adapter.set_strength(strength)
        after = torch.cat([weight_of(model, path) for path in QKV]).double()
        assert (after - before - strength * expected).abs().max() <= EXACT
    adapter.remove()
    assert torch.equal(torch.cat([model.get_submodule(path).weight for path in QKV]), before)


def test_halves_that_stand_the_other_way_round(flux: Any, tmp_path: Path) -> None:
    """Shift and scale of the last norm are the authors' shift first, and diffusers' scale first."""
    layer = flux.transformer.norm_out.linear
    before = layer.weight.detach().clone()
    tensors = trained("lokr", before, 2)
    path = saved(
        tmp_path / "a.safetensors", "lokr", {"lora_unet_final_layer_adaLN_modulation_1": tensors}
    )
    theirs = torch.cat(before.chunk(2)[::-1])
    changed = by_hand("lokr", theirs, tensors)
    adapter = adapters.apply(flux, path, alpha=None)
    assert isinstance(adapter.parts[0], Rewritten)
    assert (layer.weight - torch.cat(changed.chunk(2)[::-1])).abs().max() <= EXACT
    adapter.remove()
    assert torch.equal(layer.weight, before)


# --- all of it, or nothing -----------------------------------------------------------------------

ONE = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            {ONE: ("lokr", (96, 32)), "lora_unet_double_blocks_7_img_mod_lin": ("lokr", (8, 8))},
            "of 2 modules the base model has not 1 module (lora_unet_double_blocks_7_img_mod_lin)",
        ),
        ({ONE: ("lokr", (64, 32))}, f"{ONE}: alpha"),
        (
            {ONE: ("lokr", (96, 32)), f"transformer.{BLOCK}.to_q": ("lokr", (32, 32))},
            f"it holds twice 1 module (transformer.{BLOCK}.to_q)",
        ),
        (
            {ONE: ("lokr", (96, 32)), "lora_unet_img_in": ("biased", (32, 4))},
            "lora_unet_img_in: diff, diff_b are of no form that is known here",
        ),
    ],
)
def test_what_cannot_be_applied_whole_is_not_applied_at_all(
    flux: Any, tmp_path: Path, layers: dict[str, tuple[str, tuple[int, int]]], words: str
) -> None:
    """The file's own names are told; the base is as it was, with what was in it already out."""
    made = {
        name: drawn({"diff": shape, "diff_b": shape[:1]}, 1)
        if form == "biased"
        else trained(form, torch.zeros(shape), 1)
        for name, (form, shape) in layers.items()
    }
    weights = {name: id(it) for name, it in flux.transformer.named_parameters()}
    with pytest.raises(EvaluationError) as told:
        adapters.apply(flux, saved(tmp_path / "a.safetensors", "lokr", made), alpha=None)
    assert told.value.kind == "weights"
    assert words in str(told.value)
    assert {name: id(it) for name, it in flux.transformer.named_parameters()} == weights


def test_a_lora_with_other_outputs_is_told(flux: Any, tmp_path: Path) -> None:
    """A pair for another width of the same family."""
    path = saved(
        tmp_path / "a.safetensors", "locon", {ONE: trained("locon", torch.zeros(48, 32), 1)}
    )
    with pytest.raises(EvaluationError, match=f"{ONE} has 48 outputs for 96"):
        adapters.apply(flux, path, alpha=None)
