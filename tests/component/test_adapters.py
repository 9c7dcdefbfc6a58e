"""LoRA and DoRA in every form: all of a file acts, as computed by hand, and leaves no trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import adapter_kit as forms
import evaluator_kit as kit
from adapter_kit import ALPHA, LORA, RANK
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.protocol import Prompt
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.evaluator.generation.weights import check_eval, models_of
from clipwatch.executors.messages import Finished, Loaded, Scored

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


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator()


@pytest.fixture(scope="module")
def lora(base: Path) -> tuple[forms.State, dict[str, Any]]:
    return forms.unet_lora(base, 1)


def changes(pipeline: Any, path: Path, **how: Any) -> dict[str, torch.Tensor]:
    """Return by how much an adapter changes the weights of LAYERS; it is taken out again."""
    strength = how.pop("strength", 1.0)
    before = {layer: forms.weight_of(pipeline.unet, layer) for layer in forms.LAYERS}
    adapter = adapters.apply(pipeline, path, **{"alpha": None, **how})
    adapter.set_strength(strength)
    after = {layer: forms.weight_of(pipeline.unet, layer) for layer in forms.LAYERS}
    adapter.remove()
    return {layer: after[layer] - before[layer] for layer in forms.LAYERS}


def product(state: forms.State, layer: str) -> torch.Tensor:
    """Return a pair's product in the shape of the layer's weight."""
    down, up = (state[f"{layer}.lora_{half}.weight"] for half in "AB")
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


# --- values --------------------------------------------------------------------------------------

SCALES = {"no metadata": 1.0}
"""alpha/r where it is not the trainer's: a file that tells none has its rank."""


@pytest.mark.parametrize("form", forms.FORMS)
def test_the_change_is_that_of_the_files_tensors(
    pipeline: Any, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]], form: str
) -> None:
    """W' - W is alpha/r x up x down for linear layers and convolutions, in every form."""
    state, config = lora
    path = forms.written(form, tmp_path / LORA, state, config)
    found = changes(pipeline, path)
    adapted = [it for it in forms.LAYERS if form != "attention processors" or "attn" in it]
    for layer in adapted:
        expected = SCALES.get(form, ALPHA / RANK) * product(state, layer)
        assert expected.abs().max() > 0.02
        assert (found[layer] - expected).abs().max() <= EXACT, layer


@pytest.mark.parametrize("form", ["diffusers", "comfyui sdxl"])
def test_dora_sets_the_magnitude_of_every_output(
    base: Path, pipeline: Any, tmp_path: Path, form: str
) -> None:
    """W' = m (W + s B A) / |W + s B A|, row by row."""
    state, config = forms.unet_lora(base, 2, dora=True)
    path = forms.written(form, tmp_path / LORA, state, config)
    found = changes(pipeline, path)
    for layer in forms.LAYERS:
        weight = forms.weight_of(pipeline.unet, layer)
        turned = weight + ALPHA / RANK * product(state, layer)
        rows = turned.flatten(1).norm(dim=1)
        magnitude = state[f"{layer}.lora_magnitude_vector"].flatten()
        expected = turned * (magnitude / rows).reshape(-1, *[1] * (weight.dim() - 1)) - weight
        assert (found[layer] - expected).abs().max() <= EXACT


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.3])
def test_strength_multiplies_what_is_added(
    pipeline: Any, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]], strength: float
) -> None:
    """It is a factor beside alpha/r, as PEFT's set_scale has it; 0.0 is a value."""
    path = forms.written("diffusers", tmp_path / LORA, *lora)
    found = changes(pipeline, path, strength=strength)
    for layer in forms.LAYERS:
        expected = strength * ALPHA / RANK * product(lora[0], layer)
        assert (found[layer] - expected).abs().max() <= EXACT


def test_the_text_encoders_share_acts_in_full(base: Path, pipeline: Any, tmp_path: Path) -> None:
    """Strength is the denoiser's, as in the trainer's validation."""
    kit.write_lora(base, tmp_path, seed=3, text=True)
    adapter = adapters.apply(pipeline, tmp_path / LORA, alpha=None)
    assert sorted(adapter.components) == ["text_encoder", "unet"]
    layer = "encoder.layers.0.self_attn.q_proj"
    whole = forms.weight_of(pipeline.text_encoder, layer)
    adapter.set_strength(0.0)
    assert torch.equal(forms.weight_of(pipeline.text_encoder, layer), whole)
    adapter.remove()
    assert not torch.equal(forms.weight_of(pipeline.text_encoder, layer), whole)


@pytest.mark.parametrize(
    ("change", "alpha", "scale"),
    [
        ({}, 12.0, 12.0 / RANK),
        ({"lora_alpha": 2.0}, 12.0, 2.0 / RANK),
        ({"lora_alpha": 2.0, "use_rslora": True}, None, 2.0 / RANK**0.5),
        ({"lora_alpha": 2.0, "alpha_pattern": {"attn1.to_q": 8.0}}, None, 8.0 / RANK),
        ({"alpha_pattern": {"attn1.to_q": 8.0}}, 12.0, 8.0 / RANK),
    ],
)
def test_where_alpha_comes_from(
    pipeline: Any,
    tmp_path: Path,
    lora: tuple[forms.State, dict[str, Any]],
    change: dict[str, Any],
    alpha: float | None,
    scale: float,
) -> None:
    """The file's own before the settings', and of the file the pattern before the rest."""
    path = forms.written("diffusers", tmp_path / LORA, lora[0], change)
    found = changes(pipeline, path, alpha=alpha)[forms.LINEAR]
    assert (found - scale * product(lora[0], forms.LINEAR)).abs().max() <= EXACT


def test_ranks_that_differ_have_themselves_as_alpha(
    pipeline: Any, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]]
) -> None:
    """As SimpleTuner takes it, whatever the settings say."""
    state = dict(lora[0])
    names = [f"{forms.POINT}.lora_{half}.weight" for half in "AB"]
    state[names[0]], state[names[1]] = state[names[0]][:2].clone(), state[names[1]][:, :2].clone()
    path = forms.written("no metadata", tmp_path / LORA, state, {})
    found = changes(pipeline, path, alpha=12.0)
    for layer in forms.LAYERS:
        assert (found[layer] - product(state, layer)).abs().max() <= EXACT


# --- traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dora", [False, True])
def test_nothing_of_it_stays(base: Path, pipeline: Any, tmp_path: Path, dora: bool) -> None:
    """Modules, names and bits are the base's again, and no file is needed any more."""
    path = forms.written("diffusers", tmp_path / LORA, *forms.unet_lora(base, 4, dora=dora))
    before = {name: it.clone() for name, it in pipeline.unet.state_dict().items()}
    modules = dict(pipeline.unet.named_modules())
    adapter = adapters.apply(pipeline, path, alpha=None)
    assert pipeline.unet.state_dict().keys() != before.keys()
    path.unlink()
    adapter.remove()
    after = pipeline.unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert dict(pipeline.unet.named_modules()) == modules
    assert not hasattr(pipeline.unet, "peft_config")


@pytest.mark.parametrize("init", ["pissa", "olora", "loftq"])
def test_a_changed_base_is_named(
    pipeline: Any, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]], init: str
) -> None:
    """Such an initialisation changed the base's weights, which the file does not hold."""
    config = {**lora[1], "init_lora_weights": init}
    path = forms.written("diffusers", tmp_path / LORA, lora[0], config)
    with pytest.raises(EvaluationError, match=f"{init}.* had changed"):
        adapters.apply(pipeline, path, alpha=None)


def test_dropout_is_off_and_no_module_trains(
    base: Path, evaluator: Evaluator, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]]
) -> None:
    """The trainer's dropout stands in the file's metadata; twice the same pictures come out."""
    assert lora[1]["lora_dropout"] == 0.5
    forms.written("diffusers", tmp_path / LORA, *lora)
    first, second = (forms.scores(evaluator, tmp_path, "live", base) for _ in range(2))
    assert first == second
    *_, generator = (it.model for it in evaluator.models.held.values())
    models = models_of(generator._pipeline)
    check_eval(models)
    assert not any(isinstance(it, torch.nn.Dropout) and it.p for it in adapted(models))
    next(adapted(models)).train()
    with pytest.raises(EvaluationError, match="in training mode") as told:
        check_eval(models)
    assert told.value.kind == "internal"
    assert generator._pipeline.unet.eval()


def adapted(models: list[torch.nn.Module]) -> Any:
    """Yield the modules of the adapter's layers."""
    for model in models:
        for name, module in model.named_modules():
            if "lora_" in name:
                yield module


# --- all of it, or nothing -----------------------------------------------------------------------


def without_half(state: forms.State) -> forms.State:
    return {name: it for name, it in state.items() if name != f"{forms.LINEAR}.lora_B.weight"}


def with_stranger(state: forms.State) -> forms.State:
    more = {f"mid_block.attentions.7.to_q.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    return {**state, **more}


def misshapen(state: forms.State) -> forms.State:
    return {**state, f"{forms.LINEAR}.lora_A.weight": torch.ones(RANK, 3)}


def infinite(state: forms.State) -> forms.State:
    name = f"{forms.LINEAR}.lora_A.weight"
    return {**state, name: torch.full_like(state[name], torch.inf)}


def with_twin(state: forms.State) -> forms.State:
    names = [f"{forms.LINEAR}.lora_{half}.weight" for half in "AB"]
    return {
        **state,
        **{name.replace(".weight", ".x.weight"): state[name].clone() for name in names},
    }


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_half, "it holds only half of 1 module (unet.mid_block"),
        (with_stranger, "the base model has not 1 module (unet.mid_block.attentions.7.to_q) under"),
        (
            misshapen,
            "unet: mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A has [4, 3] for",
        ),
        (infinite, "holds NaN or infinity"),
        (with_twin, "or there twice"),
    ],
)
def test_what_cannot_be_applied_whole_is_not_applied_at_all(
    base: Path,
    evaluator: Evaluator,
    tmp_path: Path,
    lora: tuple[forms.State, dict[str, Any]],
    change: Any,
    words: str,
) -> None:
    """It is told how much and what of it, and the next checkpoint finds the base as it was."""
    forms.written("diffusers", tmp_path / "good" / LORA, *lora)
    before = forms.scores(evaluator, tmp_path / "good", "live", base)
    forms.written("diffusers", tmp_path / "bad" / LORA, change(lora[0]), lora[1])
    how = kit.protocol(base)
    failed = kit.failure(evaluator, kit.request(tmp_path / "bad", "lora", how))
    assert failed.kind == "weights"
    assert words in failed.reason
    assert forms.scores(evaluator, tmp_path / "good", "live", base) == before


def test_a_text_encoder_s_misfit_is_told_as_the_text_encoder_s(
    base: Path, pipeline: Any, tmp_path: Path
) -> None:
    """With component, module and half; the denoiser's share, put in before, goes again."""
    kit.write_lora(base, tmp_path, text=True)
    with safe_open(tmp_path / LORA, "pt") as file:
        metadata = file.metadata()
    state = load_file(tmp_path / LORA)
    name = min(it for it in state if it.startswith("text_encoder.") and "lora_A" in it)
    state[name] = torch.ones(state[name].shape[0], 3)
    save_file(state, tmp_path / LORA, metadata)
    with pytest.raises(EvaluationError) as told:
        adapters.apply(pipeline, tmp_path / LORA, alpha=None)
    assert "cannot be applied: text_encoder: encoder.layers.0.self_attn." in str(told.value)
    assert ".lora_A has [" in str(told.value)
    assert not any(isinstance(it, LoraLayer) for it in pipeline.unet.modules())


def test_forms_may_be_mixed(
    pipeline: Any, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]]
) -> None:
    """Where diffusers takes one form of a file and drops the rest without a word, all acts."""
    forms.written("earlier diffusers", tmp_path / "a", *lora)
    forms.written("comfyui sdxl", tmp_path / "b", *lora)
    names = [it.replace(".", "_") for it in (forms.LINEAR, forms.CONV)]
    some = {
        name: it
        for name, it in load_file(tmp_path / "b").items()
        if any(f"lora_unet_{known}." in name for known in names)
    }
    rest = {
        name: it
        for name, it in load_file(tmp_path / "a").items()
        if not any(f"unet.{known}." in name for known in (forms.LINEAR, forms.CONV))
    }
    told = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": ALPHA})}
    save_file({**some, **rest}, tmp_path / "both", told)
    found = changes(pipeline, tmp_path / "both")
    for layer in forms.LAYERS:
        expected = ALPHA / RANK * product(lora[0], layer)
        assert (found[layer] - expected).abs().max() <= EXACT


# --- strength ------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_each_prompt_has_its_own_strength(
    base: Path, evaluator: Evaluator, tmp_path: Path, lora: tuple[forms.State, dict[str, Any]]
) -> None:
    """Prompts of one strength share a batch, in order; each scores as with that strength alone."""
    forms.written("diffusers", tmp_path / LORA, *lora)
    texts = ("one red circle", "two blue squares", "a green star", "nothing at all")
    strengths = (0.5, 0.5, None, 0.0)
    prompts = tuple(
        Prompt(str(n), text, "", strength)
        for n, (text, strength) in enumerate(zip(texts, strengths, strict=True))
    )
    how = replace(kit.protocol(base, images_per_prompt=1), prompts=prompts, adapter_strength=0.8)
    replies = kit.replies_of(evaluator, forms.request(tmp_path, "live", how, batch_size=4))
    assert isinstance(replies[0], Loaded)
    assert isinstance(replies[-1], Finished)
    batches = [it.images for it in replies if isinstance(it, Scored)]
    assert [[it.prompt_id for it in batch] for batch in batches] == [["0", "1"], ["2"], ["3"]]
    found = {it.prompt_id: it.score for batch in batches for it in batch}
    for prompt in prompts:
        strength = 0.8 if prompt.strength is None else prompt.strength
        alone = replace(how, prompts=(replace(prompt, strength=None),), adapter_strength=strength)
        (score,) = kit.scores_of(evaluator, forms.request(tmp_path, "live", alone))
        assert score.score == pytest.approx(found[prompt.id], abs=1e-4)
    plain = kit.scores_of(
        evaluator, kit.request(base, "base", replace(how, prompts=prompts[3:]), files=())
    )
    assert plain[0].score == pytest.approx(found["3"], abs=1e-4)
