"""Folders that PEFT saves by itself: what its adapter_config.json tells counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file

import adapter_kit as forms
import evaluator_kit as kit
from adapter_kit import RANK
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.sighting import Unusable, Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.layouts import look_once

pytestmark = kit.QUIET

EXACT = 1e-6
FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    return DiffusionPipeline.from_pretrained(base)


def saved(base: Path, folder: Path, config: Any) -> Any:
    """Train an adapter of the base's UNet for a moment, as PEFT does, and save it; return it."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    model = get_peft_model(unet, config)
    noise = torch.Generator().manual_seed(1)
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            assert any(it in name for it in ("lora_", "oft_", "hada_", "lokr_"))
            tensor.data += torch.randn(tensor.shape, generator=noise) * 0.1
    model.save_pretrained(folder)
    return model.base_model.model.eval()


SCALES: dict[str, tuple[dict[str, Any], float]] = {
    "alpha": ({"lora_alpha": 10}, 10 / RANK),
    "rslora": ({"lora_alpha": 10, "use_rslora": True}, 10 / RANK**0.5),
    "pattern": ({"lora_alpha": RANK, "alpha_pattern": {"attn1.to_q": 10}}, 10 / RANK),
}


@pytest.mark.parametrize("case", SCALES)
def test_the_scale_is_that_of_the_config(
    base: Path, pipeline: Any, tmp_path: Path, case: str
) -> None:
    """The config belongs to the checkpoint: it is staged and digested like the weights."""
    more, scale = SCALES[case]
    trained = saved(base, tmp_path, LoraConfig(r=RANK, target_modules=forms.TARGETS, **more))
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Whole)
    assert [file.path for file in seen.weights.files] == [FILE, CONFIG]
    before = forms.weight_of(pipeline.unet, forms.LINEAR)
    adapter = adapters.apply(pipeline, tmp_path / FILE, tmp_path / CONFIG, alpha=None)
    found = forms.weight_of(pipeline.unet, forms.LINEAR) - before
    adapter.remove()
    layer = trained.get_submodule(forms.LINEAR)
    up, down = (getattr(layer, f"lora_{half}")["default"].weight for half in "BA")
    assert (found - scale * up @ down).abs().max() <= EXACT
    assert found.abs().max() > 0.01


def test_a_scale_of_one_needs_no_config(base: Path, tmp_path: Path) -> None:
    """It is what a file means that tells none, with or without one beside it."""
    saved(base, tmp_path, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=forms.TARGETS))
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Whole)
    assert [file.path for file in seen.weights.files] == [FILE]


def test_the_evaluator_reads_it(base: Path, tmp_path: Path) -> None:
    """The score is that of the same LoRA with its alpha in a file of diffusers."""
    config = LoraConfig(r=RANK, lora_alpha=10, target_modules=forms.TARGETS)
    saved(base, tmp_path / "peft", config)
    state = load_file(tmp_path / "peft" / FILE)
    bare = {name.removeprefix("base_model.model."): it for name, it in state.items()}
    forms.written("diffusers", tmp_path / "same" / forms.LORA, bare, {"lora_alpha": 10})
    forms.written("diffusers", tmp_path / "other" / forms.LORA, bare, {"lora_alpha": RANK})
    evaluator = Evaluator()
    found = [
        forms.scores(evaluator, tmp_path / it, "live", base) for it in ("peft", "same", "other")
    ]
    assert found[0] == found[1] != found[2]


def test_a_base_that_it_changed_is_not_guessed(base: Path, tmp_path: Path) -> None:
    """PiSSA's, which its config tells."""
    saved(base, tmp_path, LoraConfig(r=RANK, target_modules=forms.TARGETS))
    told = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(told | {"init_lora_weights": "pissa"}))
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Unusable)
    assert "a base model that 'pissa' had changed" in seen.reason


# --- LoHa, LoKr ----------------------------------------------------------------------------------

LINEAR_LAYERS = {"target_modules": ["to_q"]}
PRODUCTS: dict[str, tuple[Any, float]] = {
    "loha": (LoHaConfig(r=2, alpha=7, **LINEAR_LAYERS), 7 / 2),
    "loha pattern": (
        LoHaConfig(r=2, alpha=7, alpha_pattern={"attn1.to_q": 3}, **LINEAR_LAYERS),
        3 / 2,
    ),
    "lokr": (LoKrConfig(r=2, alpha=7, **LINEAR_LAYERS), 7 / 2),
    "lokr whole": (LoKrConfig(r=16, alpha=7, **LINEAR_LAYERS), 7 / 16),
    "lokr rank": (LoKrConfig(r=16, alpha=7, rank_pattern={"to_q": 2}, **LINEAR_LAYERS), 7 / 2),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_have_the_alpha_of_the_config(
    base: Path, pipeline: Any, tmp_path: Path, case: str
) -> None:
    """No tensor of a LoHa or LoKr of PEFT tells it; also where a matrix is whole."""
    config, scale = PRODUCTS[case]
    trained = saved(base, tmp_path, config)
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Whole)
    assert [file.path for file in seen.weights.files] == [FILE, CONFIG]
    tensors = {
        name.removeprefix(f"base_model.model.{forms.LINEAR}."): it
        for name, it in load_file(tmp_path / FILE).items()
        if forms.LINEAR in name
    }
    if "loha" in case:
        first, second = (tensors[f"hada_w{it}_a"] @ tensors[f"hada_w{it}_b"] for it in (1, 2))
        expected = scale * first * second
    else:
        large = tensors.get("lokr_w2")
        large = tensors["lokr_w2_a"] @ tensors["lokr_w2_b"] if large is None else large
        expected = scale * torch.kron(tensors["lokr_w1"], large)
    before = forms.weight_of(pipeline.unet, forms.LINEAR)
    adapter = adapters.apply(pipeline, tmp_path / FILE, tmp_path / CONFIG, alpha=None)
    found = forms.weight_of(pipeline.unet, forms.LINEAR) - before
    adapter.remove()
    assert (found - expected).abs().max() <= EXACT
    theirs = trained.get_submodule(forms.LINEAR).get_delta_weight("default")
    assert (found - theirs).abs().max() <= EXACT
    assert found.abs().max() > 1e-3


def test_products_of_kernels(base: Path, pipeline: Any, tmp_path: Path) -> None:
    """Of convolutions, flat and with a core of their own, as PEFT's layers add them."""
    for number, effective in enumerate((False, True)):
        for kind in (LoHaConfig, LoKrConfig):
            folder = tmp_path / f"{kind.__name__}-{number}"
            config = kind(r=2, alpha=7, target_modules=["conv1"], use_effective_conv2d=effective)
            trained = saved(base, folder, config)
            before = forms.weight_of(pipeline.unet, forms.CONV)
            adapter = adapters.apply(pipeline, folder / FILE, folder / CONFIG, alpha=None)
            found = forms.weight_of(pipeline.unet, forms.CONV) - before
            adapter.remove()
            theirs = trained.get_submodule(forms.CONV).get_delta_weight("default")
            assert (found - theirs.reshape(found.shape)).abs().max() <= EXACT, folder.name
            assert found.abs().max() > 1e-4


# --- OFT, biases ---------------------------------------------------------------------------------

TURNS: dict[str, dict[str, Any]] = {
    "five terms": {"oft_block_size": 4},
    "shared": {"oft_block_size": 4, "block_share": True},
    "three terms": {"oft_block_size": 8, "num_cayley_neumann_terms": 3},
    "six terms": {"oft_block_size": 4, "num_cayley_neumann_terms": 6},
    "two terms": {"oft_block_size": 4, "num_cayley_neumann_terms": 2},
    "exactly": {"oft_block_size": 4, "use_cayley_neumann": False},
}


@pytest.mark.parametrize("case", TURNS)
def test_peft_turns_what_a_layer_is_given(
    base: Path, pipeline: Any, tmp_path: Path, case: str
) -> None:
    """Linear layers and convolutions over points, as its config says."""
    config = OFTConfig(r=0, target_modules=["to_q", "proj_in"], **TURNS[case])
    trained = saved(base, tmp_path, config)
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Whole)
    assert [file.path for file in seen.weights.files] == [FILE, CONFIG]
    adapter = adapters.apply(pipeline, tmp_path / FILE, tmp_path / CONFIG, alpha=None)
    found = {path: forms.weight_of(pipeline.unet, path) for path in (forms.LINEAR, forms.POINT)}
    adapter.remove()
    for path, weight in found.items():
        assert (weight - forms.weight_of(trained, path)).abs().max() <= EXACT, path
        assert (weight - forms.weight_of(pipeline.unet, path)).abs().max() > 0.01


def test_an_oft_that_is_no_weight_is_not_applied(base: Path, pipeline: Any, tmp_path: Path) -> None:
    """Of a kernel PEFT turns overlapping pieces of a picture; constrained ones change in use."""
    saved(base, tmp_path, OFTConfig(r=0, oft_block_size=4, target_modules=["to_q", "conv1"]))
    with pytest.raises(EvaluationError, match=r"conv1.*a kernel, which PEFT's OFT turns in pieces"):
        adapters.apply(pipeline, tmp_path / FILE, tmp_path / CONFIG, alpha=None)
    told = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(told | {"coft": True}))
    seen = look_once(tmp_path, "live").verdict
    assert isinstance(seen, Unusable)
    assert "a constrained OFT (coft)" in seen.reason


def test_biases_of_the_second_half(base: Path, pipeline: Any, tmp_path: Path) -> None:
    """PEFT's lora_bias: scaled like the pair."""
    config = LoraConfig(r=RANK, lora_alpha=10, target_modules=["to_q", "proj_in"], lora_bias=True)
    trained = saved(base, tmp_path, config)
    adapter = adapters.apply(pipeline, tmp_path / FILE, tmp_path / CONFIG, alpha=None)
    layers = [pipeline.unet.get_submodule(it) for it in (forms.LINEAR, forms.POINT)]
    widths = [it.base_layer.weight.shape[1] for it in layers]
    given = [torch.ones(2, widths[0]), torch.ones(1, widths[1], 3, 3)]
    found = [layer(it) for layer, it in zip(layers, given, strict=True)]
    adapter.remove()
    for number, path in enumerate((forms.LINEAR, forms.POINT)):
        assert (found[number] - trained.get_submodule(path)(given[number])).abs().max() <= EXACT
        plain = pipeline.unet.get_submodule(path)(given[number])
        assert (found[number] - plain).abs().max() > 0.01
