"""LyCORIS: what its trainer's network does, at any strength, and nothing of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import adapter_kit as forms
import evaluator_kit as kit
from adapter_kit import ALPHA, LORA, RANK
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.sighting import Unusable
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.evaluator.generation.adapters.lora import ADAPTER
from clipwatch.evaluator.generation.weights import check_eval, models_of
from clipwatch.layouts import look_once

pytestmark = kit.QUIET

EXACT = 1e-6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    return DiffusionPipeline.from_pretrained(base)


@torch.no_grad()
def answer(unet: Any) -> torch.Tensor:
    """Return what a UNet makes of two fixed noises and texts."""
    noise = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=noise)
    texts = torch.randn(2, 5, unet.config.cross_attention_dim, generator=noise)
    times = torch.tensor([20, 700])
    sample = unet(latents.to(unet.dtype), times, texts.to(unet.dtype)).sample
    return torch.Tensor(sample.float())


@contextmanager
def applied(pipeline: Any, path: Path) -> Iterator[Any]:
    adapter = adapters.apply(pipeline, path, alpha=None)
    try:
        yield adapter
    finally:
        adapter.remove()


# --- against the trainer's own network -----------------------------------------------------------


@pytest.mark.parametrize("algo", forms.ALGOS)
@pytest.mark.thorough(but=5)
def test_it_does_what_the_trainers_network_does(pipeline: Any, tmp_path: Path, algo: str) -> None:
    """The same answers as the network from which the file was saved, and the base's afterwards."""
    unet = pipeline.unet
    before = {name: it.clone() for name, it in unet.state_dict().items()}
    alone = answer(unet)
    network = forms.network(unet, algo)
    network.apply_to()
    network.eval()
    expected = {}
    for strength in (1.0, 0.6):
        network.set_multiplier(strength)
        expected[strength] = answer(unet)
    state = {name: it.detach().clone().contiguous() for name, it in network.state_dict().items()}
    network.restore()
    for module in unet.modules():
        vars(module).pop("forward", None)  # its own, which it leaves there
    assert torch.equal(answer(unet), alone)
    save_file(state, tmp_path / LORA, {"lycoris_config": json.dumps(forms.ALGOS[algo])})
    with applied(pipeline, tmp_path / LORA) as adapter:
        (tmp_path / LORA).unlink()
        check_eval(models_of(pipeline))
        for strength, wanted in expected.items():
            adapter.set_strength(strength)
            assert (answer(unet) - wanted).abs().max() <= 5 * EXACT
            assert (wanted - alone).abs().max() > 0.01
    after = unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(answer(unet), alone)
    assert not any("forward" in vars(module) for module in unet.modules())
    check_eval(models_of(pipeline))


@pytest.mark.parametrize("algo", forms.ALGOS)
@pytest.mark.thorough(but=1)
def test_it_works_in_bfloat16(base: Path, tmp_path: Path, algo: str) -> None:
    """Half of the bits give nearly the same answers: every cast is in place."""
    forms.write_lycoris(base, tmp_path / LORA, algo)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipeline = DiffusionPipeline.from_pretrained(base, torch_dtype=dtype)
        with applied(pipeline, tmp_path / LORA) as adapter:
            adapter.set_strength(0.7)
            found[dtype] = answer(pipeline.unet)
    exact, half = found.values()
    assert (exact - half).norm() <= 0.1 * exact.norm()


# --- against formulas ----------------------------------------------------------------------------


def locon(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w + ALPHA / RANK * (
        t["lora_up.weight"].flatten(1) @ t["lora_down.weight"].flatten(1)
    ).reshape(w.shape)


def dora(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    turned = locon(w, t)
    rows = turned.flatten(1).norm(dim=1).reshape(-1, *[1] * (w.dim() - 1))
    return torch.Tensor(turned * t["dora_scale"] / rows)


def dora_of_inputs(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    turned = locon(w, t)
    columns = turned.transpose(0, 1).flatten(1).norm(dim=1)
    scales = t["dora_scale"] / columns.reshape(1, -1, *[1] * (w.dim() - 2))
    return torch.Tensor(turned * scales)


def loha(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    halves = (t[f"hada_w{n}_a"] @ t[f"hada_w{n}_b"] for n in (1, 2))
    return w + ALPHA / RANK * (next(halves) * next(halves)).reshape(w.shape)


def lokr(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    small = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        large, scale = t["lokr_w2"], 1.0 if "lokr_w1" in t else ALPHA / RANK
    else:
        large, scale = t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1), ALPHA / RANK
    large = large.reshape(w.shape[0] // small.shape[0], w.shape[1] // small.shape[1], *w.shape[2:])
    return w + scale * torch.kron(small.reshape(*small.shape, *[1] * (w.dim() - 2)), large)


def full(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w + t["diff"]


def turns(blocks: torch.Tensor, limit: float) -> torch.Tensor:
    """Return the rotations of skew parts, by Cayley; their norm together is at most `limit`."""
    skew = blocks - blocks.mT
    if 0 < limit < skew.norm():
        skew = skew * limit / skew.norm()
    one = torch.eye(blocks.shape[-1])
    return (one + skew) @ (one - skew).inverse()


def diagonal(blocks: torch.Tensor) -> torch.Tensor:
    """Return a matrix of blocks, one behind the other."""
    count, size, _ = blocks.shape
    found = torch.zeros(count, size, count, size)
    found[torch.arange(count), :, torch.arange(count)] = blocks
    return found.reshape(count * size, count * size)


def oft(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    rotation = diagonal(turns(t["oft_blocks"], float(t["alpha"]) * w.shape[0]).mT)
    return (rotation @ w.flatten(1)).reshape(w.shape) * t.get("rescale", torch.tensor(1.0))


def boft(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    rows = w.flatten(1)
    for stage, blocks in enumerate(turns(t["oft_blocks"], 0.0)):
        far = 2**stage * blocks.shape[-1] // 2
        order = torch.arange(len(rows)).reshape(-1, 2, far).transpose(1, 2).flatten()
        mixed = diagonal(blocks) @ rows[order]
        rows = torch.empty_like(rows).index_copy(0, order, mixed)
    return rows.reshape(w.shape)


def glora(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    a, b = (t[f"{it}1.weight"].flatten(1) @ t[f"{it}2.weight"].flatten(1) for it in "ab")
    left = torch.einsum("oi...,ij->oj...", w, a)
    return w + ALPHA / RANK * (left + b.reshape(w.shape))


def ia3(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w * (1 + t["weight"].reshape(-1, *[1] * (w.dim() - 1)))


FORMULAS: dict[str, Callable[..., torch.Tensor]] = {
    "locon": locon,
    "locon-dora": dora,
    "locon-dora-inputs": dora_of_inputs,
    "loha": loha,
    "lokr": lokr,
    "lokr-both": lokr,
    "lokr-full": lokr,
    "full-norm": full,
    "oft": oft,
    "oft-rescaled": oft,
    "boft": boft,
    "glora": glora,
    "ia3": ia3,
}


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize("algo", FORMULAS)
def test_the_weights_are_those_of_the_formula(
    base: Path, pipeline: Any, tmp_path: Path, algo: str
) -> None:
    """W' as computed by hand from the file's tensors: linear layers and convolutions."""
    forms.write_lycoris(base, tmp_path / LORA, algo)
    state = load_file(tmp_path / LORA)
    before = {layer: forms.weight_of(pipeline.unet, layer) for layer in forms.LAYERS}
    plain = {layer: pipeline.unet.get_submodule(layer).weight.clone() for layer in forms.LAYERS}
    with applied(pipeline, tmp_path / LORA):
        after = {layer: forms.weight_of(pipeline.unet, layer) for layer in forms.LAYERS}
    for layer in forms.LAYERS:
        flat = f"lycoris_{layer.replace('.', '_')}."
        tensors = {name.removeprefix(flat): it for name, it in state.items() if flat in name}
        expected = FORMULAS[algo](plain[layer], tensors) - plain[layer]
        assert expected.abs().max() > 1e-3
        assert (after[layer] - before[layer] - expected).abs().max() <= 2 * EXACT, layer


def test_norms_are_shifted(base: Path, pipeline: Any, tmp_path: Path) -> None:
    """w_norm and b_norm are added to a norm's weight and bias."""
    forms.write_lycoris(base, tmp_path / LORA, "full-norm")
    path = "mid_block.attentions.0.norm"
    with safe_open(tmp_path / LORA, "pt") as file:
        weight, bias = (
            file.get_tensor(f"lycoris_{path.replace('.', '_')}.{it}_norm") for it in "wb"
        )
    norm = pipeline.unet.get_submodule(path)
    given = torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.group_norm(
        given, norm.num_groups, norm.weight + weight, norm.bias + bias, norm.eps
    )
    with applied(pipeline, tmp_path / LORA), torch.no_grad():
        assert (norm(given) - expected).abs().max() <= 2 * EXACT


# --- all of it, or nothing -----------------------------------------------------------------------


def renamed(state: forms.State) -> forms.State:
    return {
        name.replace("mid_block_resnets_0_conv1", "mid_block_no_0"): it
        for name, it in state.items()
    }


def cut(state: forms.State) -> forms.State:
    name = "lycoris_mid_block_resnets_0_conv1.lokr_w1"
    return {key: it for key, it in state.items() if key != name}


def without_alpha(state: forms.State) -> forms.State:
    return {key: it for key, it in state.items() if not key.endswith(".alpha")}


def wider(state: forms.State) -> forms.State:
    name = "lycoris_mid_block_resnets_0_conv1.lokr_w1"
    return {**state, name: torch.ones(8, 8)}


def one_number(state: forms.State) -> forms.State:
    """A shape that would be spread over the whole without a word."""
    name = "lycoris_mid_block_resnets_0_conv1.lokr_w1"
    return {**state, name: torch.ones(1, 1)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, "the base model has not 1 module (lycoris_mid_block_no_0) under any name"),
        (
            cut,
            "only a part of 1 module (lycoris_mid_block_resnets_0_conv1): lokr_w1 is missing",
        ),
        (without_alpha, ", ...): alpha is missing"),
        (wider, "LyCORIS"),
        (one_number, "LyCORIS"),
    ],
)
def test_what_cannot_be_applied_whole_is_not_applied_at_all(
    base: Path, pipeline: Any, tmp_path: Path, change: Any, words: str
) -> None:
    """It is told what of it, and the base is as it was."""
    forms.write_lycoris(base, tmp_path / "good", "lokr")
    save_file(change(load_file(tmp_path / "good")), tmp_path / LORA)
    alone = answer(pipeline.unet)
    with pytest.raises(EvaluationError) as told:
        adapters.apply(pipeline, tmp_path / LORA, alpha=None)
    assert told.value.kind == "weights"
    assert words in str(told.value)
    assert torch.equal(answer(pipeline.unet), alone)
    assert not hasattr(pipeline.unet, ADAPTER)


def test_kohyas_names_and_dotted_ones_mean_the_same(
    base: Path, pipeline: Any, tmp_path: Path
) -> None:
    """lora_unet_… as sd-scripts, unet.… as ai-toolkit has them."""
    forms.write_lycoris(base, tmp_path / "theirs", "lokr")
    state = load_file(tmp_path / "theirs")
    flat = {path.replace(".", "_"): path for path, _ in pipeline.unet.named_modules()}
    dotted = {}
    for name, tensor in state.items():
        module, _, leaf = name.removeprefix("lycoris_").partition(".")
        dotted[f"unet.{flat[module]}.{leaf}"] = tensor
    save_file(dotted, tmp_path / "dotted")
    save_file(
        {name.replace("lycoris_", "lora_unet_"): it for name, it in state.items()},
        tmp_path / "kohya",
    )
    answers = []
    for name in ("theirs", "dotted", "kohya"):
        with applied(pipeline, tmp_path / name):
            answers.append(answer(pipeline.unet))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_without_the_package_it_is_told_which(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base install discards it with the line that mends it."""
    forms.write_lycoris(base, tmp_path / LORA, "lokr")
    monkeypatch.setattr("clipwatch.layouts.adapter_file.find_spec", lambda _: None)
    told = look_once(tmp_path, "live").verdict
    assert isinstance(told, Unusable)
    assert told.kind == "unsupported"
    assert "pip install 'clipwatch[lycoris]'" in told.reason
