"""Checkpoints are swapped in whole, scored for themselves, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import load_file, save_file

import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.kinds import Dtype
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.executors.messages import Loaded, Reply

if TYPE_CHECKING:
    from collections.abc import Callable


UNET = "unet/diffusion_pytorch_model.safetensors"
LORA = "pytorch_lora_weights.safetensors"

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: base and other (whole pipelines), full (other's UNet), lora."""
    folder = tmp_path_factory.mktemp("world")
    write_base_pipeline(folder / "base")
    write_base_pipeline(folder / "other", seed=1)
    shutil.copytree(folder / "other" / "unet", folder / "full" / "unet")
    kit.write_lora(folder / "base", folder / "lora", text=True)
    return folder


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator()


# --- swapping ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("full", "full"), ("other", "pipeline")])
def test_pixels_are_those_of_diffusers(
    world: Path, tmp_path: Path, evaluator: Evaluator, name: str, kind: str
) -> None:
    """A full UNet in the base and the same UNet as a pipeline both give diffusers' own pixels."""
    how = kit.protocol(world / "base")
    kit.scores_of(evaluator, kit.request(world / name, kind, how, images=tmp_path, batch_size=6))
    expected = kit.plain_images(how, StableDiffusionPipeline.from_pretrained(world / "other"))
    assert kit.same_pictures(kit.saved_images(how, tmp_path), expected)


def test_prompts_are_read_from_an_earlier_layer(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """With clip_skip 2 pixels are those of a text encoder without its last layer."""
    how = kit.protocol(world / "base", clip_skip=2)
    request = kit.request(world / "full", "full", how, images=tmp_path, batch_size=6)
    kit.scores_of(evaluator, request)
    pipeline = StableDiffusionPipeline.from_pretrained(world / "other")
    encoder = getattr(pipeline.text_encoder, "text_model", pipeline.text_encoder).encoder
    whole = kit.plain_images(how, pipeline)
    del encoder.layers[-1]
    made = kit.saved_images(how, tmp_path)
    assert kit.same_pictures(made, kit.plain_images(how, pipeline))
    assert not kit.same_pictures(made, whole)


def test_lora_is_applied_in_full(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """A LoRA of UNet and text encoder gives the pixels of the models it was saved from."""
    how = kit.protocol(world / "base")
    models = kit.write_lora(world / "base", tmp_path / "lora", seed=5, text=True)
    request = kit.request(tmp_path / "lora", "lora", how, images=tmp_path / "im", batch_size=6)
    kit.scores_of(evaluator, request)
    pipeline = StableDiffusionPipeline.from_pretrained(world / "base", **models)
    expected = kit.plain_images(how, pipeline)
    assert kit.same_pictures(kit.saved_images(how, tmp_path / "im"), expected)


@pytest.mark.thorough
def test_nothing_of_a_checkpoint_stays(world: Path, evaluator: Evaluator) -> None:
    """Scores are the same whatever was evaluated before."""
    how = kit.protocol(world / "base")
    kinds = [("lora", "lora"), ("full", "full"), ("other", "pipeline")]
    fresh = {
        name: kit.scores_of(Evaluator(), kit.request(world / name, kind, how))
        for name, kind in kinds
    }
    assert kit.same(fresh["full"], fresh["other"])
    assert not kit.same(fresh["full"], fresh["lora"], kit.NEAR)
    for name, kind in [*kinds, *reversed(kinds), kinds[0], kinds[0], kinds[2], kinds[1]]:
        found = kit.scores_of(evaluator, kit.request(world / name, kind, how))
        assert kit.same(found, fresh[name])


def test_sharded_weights(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """Shards are one set of weights; without one of them the rest is refused."""
    how = kit.protocol(world / "base")
    unet = StableDiffusionPipeline.from_pretrained(world / "other").unet
    unet.save_pretrained(tmp_path / "unet", max_shard_size="1MB")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    whole = kit.scores_of(evaluator, kit.request(world / "full", "full", how))
    assert kit.same(kit.scores_of(evaluator, kit.request(tmp_path, "full", how)), whole)
    shards[0].unlink()
    assert "missing" in kit.failure(evaluator, kit.request(tmp_path, "full", how)).reason


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "kind"), [("full", "full"), ("lora", "lora"), ("other", "pipeline")]
)
@pytest.mark.thorough(but=1)
def test_no_file_is_held(world: Path, evaluator: Evaluator, name: str, kind: str) -> None:
    """Once loaded, no file of a checkpoint is open or mapped, so the trainer may delete it."""
    held: list[str] = []

    def look(reply: Reply) -> None:
        if isinstance(reply, Loaded):
            held.extend(Path("/proc/self/maps").read_text().splitlines())
            descriptors = Path("/proc/self/fd")
            held.extend(str(it.readlink()) for it in descriptors.iterdir() if it.is_symlink())

    evaluator.evaluate(kit.request(world / name, kind, kit.protocol(world / "base")), look)
    assert held
    assert not [line for line in held if str(world) in line]


# --- refusing ------------------------------------------------------------------------------------


def test_partial_lora_is_refused(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """A LoRA with a layer that the base lacks gets no score and leaves no trace."""
    how = kit.protocol(world / "base")
    state = load_file(world / "lora" / LORA)
    for half in ("A", "B"):
        state[f"unet.mid_block.attentions.9.to_q.lora_{half}.weight"] = torch.zeros(4, 4)
    save_file(state, tmp_path / LORA)
    before = kit.scores_of(evaluator, kit.request(world / "lora", "lora", how))
    failed = kit.failure(evaluator, kit.request(tmp_path, "lora", how))
    assert failed.kind == "weights"
    assert "has not 1 module (unet.mid_block.attentions.9.to_q)" in failed.reason
    after = kit.scores_of(evaluator, kit.request(world / "lora", "lora", how))
    assert kit.same(after, before)


def drop_one(state: dict[str, torch.Tensor]) -> None:
    del state["conv_in.bias"]


def add_one(state: dict[str, torch.Tensor]) -> None:
    state["stranger"] = torch.zeros(1)


def reshape_one(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.bias"] = torch.zeros(3)


def quantise_one(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.bias"] = torch.zeros(32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("full", drop_one, "1 missing (conv_in.bias)"),
        ("full", add_one, "1 unexpected (stranger)"),
        ("full", reshape_one, "conv_in.bias [3] for [32]"),
        ("full", quantise_one, "quantised"),
        ("pipeline", drop_one, "1 missing (conv_in.bias)"),
        ("pipeline", add_one, "1 unexpected (stranger)"),
    ],
)
@pytest.mark.thorough(but=2)
def test_misfit_is_refused(
    world: Path,
    tmp_path: Path,
    evaluator: Evaluator,
    kind: str,
    change: Callable[[dict[str, torch.Tensor]], None],
    word: str,
) -> None:
    """Weights that are not exactly the model's are refused by name, and the next ones fit again."""
    how = kit.protocol(world / "base")
    shutil.copytree(world / ("full" if kind == "full" else "other"), tmp_path / "it")
    state = load_file(tmp_path / "it" / UNET)
    change(state)
    save_file(state, tmp_path / "it" / UNET)
    failed = kit.failure(evaluator, kit.request(tmp_path / "it", kind, how))
    assert failed.kind == "weights"
    assert word in failed.reason
    assert kit.scores_of(evaluator, kit.request(world / "full", "full", how))


def test_other_component_is_refused(world: Path, evaluator: Evaluator) -> None:
    """A component that the base model lacks is named."""
    request = kit.request(
        world / "full", "full", kit.protocol(world / "base"), component="transformer"
    )
    failed = kit.failure(evaluator, request)
    assert (failed.kind, "'transformer'" in failed.reason) == ("weights", True)


def test_vanished_and_changed_before_loading(
    world: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    """Files that are gone or rewritten since they were found are told apart."""
    shutil.copytree(world / "full", tmp_path / "full")
    request = kit.request(tmp_path / "full", "full", kit.protocol(world / "base"))
    os.utime(tmp_path / "full" / UNET, ns=(1, 1))
    assert kit.failure(evaluator, request).kind == "changed"
    shutil.rmtree(tmp_path / "full")
    assert kit.failure(evaluator, request).kind == "vanished"


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"height": 33}, "model", "divisible by 8"),
        ({"height": 64_000_000, "width": 64_000_000}, "memory", "memory"),
        ({"scheduler": "perflow"}, "model", "ddim, ddpm"),
        ({"dtype": "int8"}, "model", "fp32, bf16, fp16"),
        ({"base_model": "/nowhere/base"}, "model", "no such folder"),
        ({"scorers": (ScorerSpec("", "/nowhere/clip"),)}, "model", "no such folder"),
    ],
)
@pytest.mark.thorough(but=1)
def test_settings_that_cannot_be_used(
    world: Path, evaluator: Evaluator, changes: dict[str, Any], kind: str, word: str
) -> None:
    """What the protocol asks for in vain is said in one line, and the evaluator goes on."""
    how = kit.protocol(world / "base")
    failed = kit.failure(evaluator, kit.request(world / "full", "full", replace(how, **changes)))
    assert failed.kind == kind, failed
    assert word in failed.reason
    assert kit.scores_of(evaluator, kit.request(world / "full", "full", how))


@pytest.mark.parametrize("name", ["sage", "_native_math", "nonsense"])
def test_attention_that_cannot_be_switched(world: Path, evaluator: Evaluator, name: str) -> None:
    """An attention that would silently stay the default is refused."""
    request = kit.request(world / "full", "full", kit.protocol(world / "base"), attention=name)
    failed = kit.failure(evaluator, request)
    assert (failed.kind, "set attention to 'native'" in failed.reason) == ("model", True)


# --- scoring -------------------------------------------------------------------------------------


def test_scores_depend_on_neither_batch_nor_order(world: Path, evaluator: Evaluator) -> None:
    """Every image has its own seed: batch size and order of the prompts change next to nothing."""
    how = kit.protocol(world / "base")
    turned = replace(how, prompts=how.prompts[::-1])
    one = kit.scores_of(evaluator, kit.request(world / "full", "full", how, batch_size=1))
    for other in (how, turned):
        many = kit.scores_of(evaluator, kit.request(world / "full", "full", other, batch_size=3))
        found = {(it.prompt_id, it.index): (it.seed, it.score) for it in many}
        assert len(found) == len(one) == 4
        for it in one:
            seed, score = found[it.prompt_id, it.index]
            assert seed == it.seed
            assert score == pytest.approx(it.score, abs=kit.NEAR)


def test_done_images_are_skipped(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """A resumed evaluation makes what is missing, the same as the first would have."""
    how = kit.protocol(world / "base")
    whole = kit.scores_of(evaluator, kit.request(world / "full", "full", how, batch_size=1))
    done = (("red", 0), ("blue", 1), ("stranger", 0))
    request = kit.request(world / "full", "full", how, images=tmp_path, done=done, batch_size=1)
    rest = kit.scores_of(evaluator, request)
    missing = [it for it in whole if (it.prompt_id, it.index) not in done]
    assert kit.same([replace(it, image=None, pixels="") for it in rest], missing)
    assert {path.name for path in tmp_path.iterdir()} == {it.image for it in rest}


def test_saved_pixels_are_scored_pixels(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """Whoever scores the saved images gets the same scores."""
    how = kit.protocol(world / "base")
    found = kit.scores_of(evaluator, kit.request(world / "lora", "lora", how, images=tmp_path))
    images = [Image.open(tmp_path / str(it.image)) for it in found]
    texts = [prompt.text for prompt, _, _ in how.images()]
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images])
    again = DualEncoder(how.decides, "cpu").score(pixels, texts)
    assert again == pytest.approx([it.score for it in found], abs=kit.AGAIN)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.thorough
def test_half_precision(world: Path, evaluator: Evaluator, dtype: Dtype) -> None:
    """Half precision gives nearly the scores of fp32, for full weights and for a LoRA."""
    how = kit.protocol(world / "base")
    for name in ("full", "lora"):
        exact = kit.scores_of(Evaluator(), kit.request(world / name, name, how))
        half = kit.scores_of(evaluator, kit.request(world / name, name, replace(how, dtype=dtype)))
        assert [it.score for it in half] == pytest.approx([it.score for it in exact], abs=0.15)
        assert not kit.same(half, exact)
