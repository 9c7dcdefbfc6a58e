"""Whole models in one file: every tensor is in its place, or the reason names what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

import evaluator_kit as kit
import original_form as form
import tiny_families
from clipwatch.domain.sighting import Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation.adapters.foreign import foreign_names
from clipwatch.evaluator.generation.single_file import parts_in, replace
from clipwatch.layouts import look_once
from trainer_runs import file

pytestmark = kit.QUIET

State = dict[str, torch.Tensor]
MAKERS: dict[str, Callable[[int], Any]] = {"sd": form.sd, "sdxl": form.sdxl}


def states(pipeline: Any) -> dict[str, State]:
    """Return a copy of all weights by component."""
    return {
        name: {key: it.detach().clone() for key, it in model.state_dict().items()}
        for name, model in pipeline.components.items()
        if isinstance(model, torch.nn.Module)
    }


def equal(first: dict[str, State], second: dict[str, State]) -> bool:
    """Whether all are the same, bit by bit."""
    return first.keys() == second.keys() and all(
        state.keys() == second[name].keys()
        and all(torch.equal(it, second[name][key]) for key, it in state.items())
        for name, state in first.items()
    )


def test_our_writer_is_sd_scripts() -> None:
    """What the tests write has the names and shapes of a real file of train_db.py."""
    data = file("kohya-db-full", "out/full.safetensors")
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    real = {name: tuple(it["shape"]) for name, it in header.items()}
    written = {name: tuple(it.shape) for name, it in form.original(form.sd(0, words=514)).items()}
    assert written == real


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("extra", ["nothing", "of OneTrainer"])
def test_every_weight_is_that_of_the_file(family: str, extra: str) -> None:
    """Of the UNet, the VAE and all text encoders; tables of the training's noise are no weights."""
    base, trained = MAKERS[family](1), MAKERS[family](2)
    before, wanted = states(base), states(trained)
    state = form.original(trained)
    if extra == "of OneTrainer":
        state |= {name: torch.zeros(1000) for name in form.SCHEDULE}
        clip = next(name for name in state if name.endswith("position_embedding.weight"))
        state[clip.replace("embedding.weight", "ids")] = torch.arange(77)[None]
    parts = parts_in(base, state)
    assert equal(states(base), before)
    replace(base, parts)
    assert not equal(before, wanted)
    assert equal(states(base), wanted)


def test_half_precision_is_cast_to_the_bases() -> None:
    """As trainers save it."""
    base, trained = form.sd(1), form.sd(2)
    state = {name: it.half() for name, it in form.original(trained).items()}
    replace(base, parts_in(base, state))
    halved = {
        name: {key: it.half().float() if it.is_floating_point() else it for key, it in part.items()}
        for name, part in states(trained).items()
    }
    assert equal(states(base), halved)


def test_what_the_file_has_none_of_stays_the_bases() -> None:
    """A UNet alone, in the form of a whole model."""
    base, trained = form.sdxl(1), form.sdxl(2)
    expected = {**states(base), "unet": states(trained)["unet"]}
    state = form.original(trained)
    replace(base, parts_in(base, {k: it for k, it in state.items() if ".diffusion" in k}))
    assert equal(states(base), expected)


def test_the_text_tower_of_sd_2() -> None:
    """OpenCLIP's, whose last layer and projection make no picture there."""
    base, trained = form.sd(1), form.sd(2)
    deeper = form.sdxl(3).text_encoder_2
    state = {k: it for k, it in form.original(trained).items() if "cond_stage" not in k}
    tower = form.open_clip(trained.text_encoder.state_dict())
    last = form.open_clip(deeper.state_dict())
    tower |= {k.replace("blocks.1", "blocks.2"): it for k, it in last.items() if "blocks.1" in k}
    tower["text_projection"] = torch.zeros(32, 32)
    state |= {f"cond_stage_model.model.{name}": it for name, it in tower.items()}
    replace(base, parts_in(base, state))
    assert equal(states(base), states(trained))


UNET = "model.diffusion_model"


@pytest.mark.parametrize(
    ("family", "change", "words"),
    [
        ("sd", {f"{UNET}.out.3.weight": 4}, f"leaves out 1 ({UNET}.out.3.weight) of 683 tensors"),
        ("sd", {f"{UNET}.out.2.bias": None}, "unet (UNet2DConditionModel): 1 missing (conv_out.bi"),
        ("sd", {f"{UNET}.out.2.bias": 5}, "1 misshapen (conv_out.bias [5] for [4])"),
        ("sd", {"first_stage_model.x": 4}, "leaves out 1 (first_stage_model.x)"),
        ("sd", {"cond_stage_model.transformer.x": 4}, "text_encoder (CLIPTextModel): 1 unexpected"),
        ("sd", {"model_ema.x": 4, "y": 4}, "no place for 2 (model_ema.x, y) of 960 tensors"),
        ("sdxl", {"conditioner.embedders.1.model.x": 4}, "text_encoder_2 (CLIPText"),
    ],
)
def test_what_does_not_fit_is_named(family: str, change: dict[str, int | None], words: str) -> None:
    """And nothing of it is taken."""
    base = MAKERS[family](1)
    state = form.original(MAKERS[family](2))
    for name, size in change.items():
        state.pop(name, None)
        if size is not None:
            state[name] = torch.zeros(size)
    with pytest.raises(ValueError, match=r"tensors|missing|misshapen|unexpected") as told:
        parts_in(base, state)
    assert words in str(told.value)


def test_another_family_is_told() -> None:
    """SDXL's file for an SD 1 base."""
    with pytest.raises(ValueError, match=r"StableDiffusionPipeline has no place for \d+ \(cond"):
        parts_in(form.sd(1), form.original(form.sdxl(2)))


# --- a transformer alone -------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["z_image", "flux", "qwen_image"])
def test_a_transformer_alone_in_diffusers_names(family: str, tmp_path: Path) -> None:
    """As musubi-tuner saves Z-Image."""
    make = getattr(tiny_families, family)
    torch.manual_seed(1)
    base = make()
    torch.manual_seed(2)
    trained = make()
    expected = {**states(base), "transformer": states(trained)["transformer"]}
    state = {name: it.contiguous() for name, it in trained.transformer.state_dict().items()}
    save_file(state, tmp_path / "full-step00000004.safetensors", {"ss_steps": "4"})
    seen = look_once(tmp_path / "full-step00000004.safetensors", "live")
    assert isinstance(seen.verdict, Whole)
    assert (seen.step, seen.verdict.weights.kind, seen.verdict.weights.component) == (4, "full", "")
    replace(base, parts_in(base, state))
    assert equal(states(base), expected)


NORMS = {
    "transformer_blocks.0.attn.norm_q.weight": "double_blocks.0.img_attn.norm.query_norm.scale",
    "transformer_blocks.0.attn.norm_k.weight": "double_blocks.0.img_attn.norm.key_norm.scale",
    "transformer_blocks.0.attn.norm_added_q.weight": (
        "double_blocks.0.txt_attn.norm.query_norm.scale"
    ),
    "transformer_blocks.0.attn.norm_added_k.weight": "double_blocks.0.txt_attn.norm.key_norm.scale",
    "single_transformer_blocks.0.attn.norm_q.weight": "single_blocks.0.norm.query_norm.scale",
    "single_transformer_blocks.0.attn.norm_k.weight": "single_blocks.0.norm.key_norm.scale",
}


@pytest.mark.parametrize("start", ["", "model.diffusion_model."])
def test_flux_in_its_authors_names(start: str) -> None:
    """Layers that are one there and several here come apart in their rows.

    diffusers knows FLUX's real width alone, so its weights have rows that take no memory: each
    holds its own number.
    """
    pipeline = tiny_families.flux()
    with init_empty_weights():
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    pipeline.register_modules(transformer=model)
    shapes = {name: it.shape for name, it in model.state_dict().items()}
    expected: State = {}
    state: State = {}
    for number, (name, (ours, swapped)) in enumerate(flux_of_its_authors(model).items()):
        sizes = [shapes[it][0] for it in ours]
        rows = torch.arange(sum(sizes)).float() + number * 2**15
        state[f"{start}{name}"] = wide(rows, shapes[ours[0]])
        rows = torch.cat(rows.chunk(2)[::-1]) if swapped else rows
        expected |= dict(zip(ours, torch.split(rows, sizes), strict=True))
    assert expected.keys() == shapes.keys()
    found = parts_in(pipeline, state)
    assert found.keys() == {"transformer"}
    for name, rows in expected.items():
        tensor = found["transformer"][name]
        assert tensor.shape == shapes[name]
        assert torch.equal(tensor[:, 0] if tensor.dim() > 1 else tensor, rows), name


def wide(rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return rows.reshape(-1, *[1] * (len(shape) - 1)).expand(-1, *shape[1:])


def flux_of_its_authors(model: Any) -> dict[str, tuple[list[str], bool]]:
    """Return by its authors' name the tensors that one is here, and whether halves are swapped."""
    paths = [name for name, _ in model.named_modules() if name]
    found = {theirs: ([ours], False) for ours, theirs in NORMS.items()}
    for name, joint in foreign_names(type(model).__name__, paths).items():
        for leaf in ("weight", "bias"):
            found[f"{name}.{leaf}"] = ([f"{path}.{leaf}" for path in joint.paths], joint.swapped)
    return found


# --- an evaluation -------------------------------------------------------------------------------


@pytest.mark.thorough
def test_it_scores_as_the_pipeline_that_was_saved(tmp_path: Path) -> None:
    """And the base is itself again afterwards, whatever came between."""
    base, trained = form.sd(1), form.sd(2)
    base.save_pretrained(tmp_path / "base")
    trained.save_pretrained(tmp_path / "pipe")
    for number, it in enumerate((trained, form.sd(3))):
        save_file(form.original(it), tmp_path / f"full-step0000000{number}.safetensors")
    evaluator = Evaluator()

    def scores(name: str) -> list[float]:
        how = kit.protocol(tmp_path / "base")
        if name == "base":
            request = kit.request(tmp_path, "base", how, files=())
        else:
            seen = look_once(tmp_path / name, "live")
            assert isinstance(seen.verdict, Whole)
            found = seen.verdict.weights
            request = kit.request(seen.path, found.kind, how, component="", files=found.files)
        return [it.score for it in kit.scores_of(evaluator, request)]

    first, second = (f"full-step0000000{number}.safetensors" for number in (0, 1))
    alone = scores("base")
    assert scores(first) == scores("pipe") == scores(first) != alone
    assert scores(second) not in (scores(first), alone)
    assert scores("base") == alone
