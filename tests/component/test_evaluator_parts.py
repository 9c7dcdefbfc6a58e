"""Checkpoints that hold some parts of a pipeline, in variants, or more than is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapter_kit as forms
import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.evaluator.evaluate import Evaluator

pytestmark = kit.QUIET

UNET = "unet/diffusion_pytorch_model.safetensors"
ENCODER = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: base, and full (another UNet)."""
    folder = tmp_path_factory.mktemp("world")
    write_base_pipeline(folder / "base")
    write_base_pipeline(folder / "other", seed=1)
    shutil.copytree(folder / "other" / "unet", folder / "full" / "unet")
    return folder


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator()


def scores(evaluator: Evaluator, world: Path, folder: Path) -> list[float]:
    return forms.scores(evaluator, folder, "live", world / "base")


def as_variant(path: Path, variant: str) -> Path:
    return path.with_name(path.name.replace(".safetensors", f".{variant}.safetensors"))


def louder(path: Path, factor: float) -> None:
    """Multiply all matrices in a file."""
    state = load_file(path)
    save_file({name: it * factor if it.dim() > 1 else it for name, it in state.items()}, path)


@pytest.mark.thorough
def test_the_variant_that_is_found_is_the_one_that_is_loaded(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """With the usual files and a variant side by side the usual ones, else the variant's."""
    shutil.copytree(world / "other", tmp_path / "both")
    usual = scores(evaluator, world, tmp_path / "both")
    for name in (UNET, ENCODER):
        path = tmp_path / "both" / name
        shutil.copy(path, as_variant(path, "fp16"))
    louder(as_variant(tmp_path / "both" / UNET, "fp16"), 1.5)
    assert scores(evaluator, world, tmp_path / "both") == usual
    (tmp_path / "both" / ENCODER).unlink()
    theirs = scores(evaluator, world, tmp_path / "both")
    assert theirs != usual
    (tmp_path / "both" / UNET).unlink()
    assert scores(evaluator, world, tmp_path / "both") == theirs


@pytest.mark.thorough
def test_a_denoiser_saved_as_a_variant(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """A full fine-tune may have one, too."""
    shutil.copytree(world / "full", tmp_path / "full")
    path = tmp_path / "full" / UNET
    path.rename(as_variant(path, "bf16"))
    assert scores(evaluator, world, tmp_path / "full") == scores(evaluator, world, world / "full")


@pytest.mark.thorough
def test_the_trained_text_encoder_encodes_the_prompts(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """Both are put in, also from shards, and neither stays when the next one has none."""
    alone = scores(evaluator, world, world / "full")
    shutil.copytree(world / "full", tmp_path / "both")
    shutil.copytree(world / "base" / "text_encoder", tmp_path / "both" / "text_encoder")
    assert scores(evaluator, world, tmp_path / "both") == alone
    louder(tmp_path / "both" / ENCODER, 1.5)
    both = scores(evaluator, world, tmp_path / "both")
    assert both != alone
    assert scores(evaluator, world, world / "full") == alone
    state = load_file(tmp_path / "both" / ENCODER)
    names = sorted(state)
    shards = {f"model-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for name, held in shards.items():
        save_file({it: state[it] for it in held}, tmp_path / "both" / "text_encoder" / name)
    index = {"weight_map": {it: name for name, held in shards.items() for it in held}}
    place = tmp_path / "both" / "text_encoder" / "model.safetensors.index.json"
    place.write_text(json.dumps(index))
    (tmp_path / "both" / ENCODER).unlink()
    assert scores(evaluator, world, tmp_path / "both") == both


def test_a_text_encoder_that_lacks_something_is_refused(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """It is told what, and the next one is scored as ever."""
    alone = scores(evaluator, world, world / "full")
    shutil.copytree(world / "full", tmp_path / "both")
    shutil.copytree(world / "base" / "text_encoder", tmp_path / "both" / "text_encoder")
    state = load_file(tmp_path / "both" / ENCODER)
    state.pop(min(state))
    save_file(state, tmp_path / "both" / ENCODER)
    failed = kit.failure(
        evaluator, forms.request(tmp_path / "both", "live", kit.protocol(world / "base"))
    )
    assert failed.kind == "weights"
    assert "1 missing keys" in failed.reason
    assert scores(evaluator, world, world / "full") == alone


def test_what_no_picture_is_made_with_may_stand_beside_the_weights(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """SimpleTuner adds two empty marks for ComfyUI, and the heads of its additional losses."""
    shutil.copytree(world / "full", tmp_path / "full")
    state = load_file(tmp_path / "full" / UNET)
    more = {
        "v_pred": torch.zeros(0),
        "ztsnr": torch.zeros(0),
        "crepa_projector.1.weight": torch.ones(2),
    }
    save_file({**state, **more}, tmp_path / "full" / UNET)
    assert scores(evaluator, world, tmp_path / "full") == scores(evaluator, world, world / "full")


def editing(state: forms.State) -> forms.State:
    first = state["conv_in.weight"]
    return {**state, "conv_in.weight": torch.cat([first, first], dim=1)}


def distilled(state: forms.State) -> forms.State:
    return {**state, "time_embedding.cond_proj.weight": torch.ones(32, 8)}


def unlike(state: forms.State) -> forms.State:
    return {f"model.{name}": it for name, it in state.items()}


def one_more(state: forms.State) -> forms.State:
    return {**state, "stranger": torch.ones(1)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (editing, "it takes an image beside the prompt"),
        (distilled, "distilled to take its guidance as an input"),
        (unlike, "...); 0 of the base model's 208 tensors are in it"),
        (one_more, "UNet2DConditionModel: 1 unexpected (stranger)"),
    ],
)
def test_a_misfit_is_explained_where_it_is_plain(
    world: Path,
    tmp_path: Path,
    evaluator: Evaluator,
    change: Callable[[forms.State], forms.State],
    words: str,
) -> None:
    """Nobody is sent to check base_model by guess."""
    shutil.copytree(world / "full", tmp_path / "full")
    save_file(change(load_file(tmp_path / "full" / UNET)), tmp_path / "full" / UNET)
    request = forms.request(tmp_path / "full", "live", kit.protocol(world / "base"))
    reason = kit.failure(evaluator, request).reason
    assert words in reason
    assert "; " not in reason or change is not one_more
