"""Adapters on a base in few bits, and on one whose parts wait in host memory."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

import adapter_kit as forms
import evaluator_kit as kit
from adapter_kit import LORA
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.kinds import Offload
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.evaluator.generation.quantise import quantise
from clipwatch.evaluator.quiet import quiet

pytestmark = kit.QUIET

PRECISIONS = ("int8-quanto", "int8-torchao", "nf4-bnb")
LINEAR = ["to_q", "to_v"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


@torch.no_grad()
def answer(unet: Any) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    latents, texts = (torch.randn(*it, generator=noise) for it in ((2, 4, 8, 8), (2, 5, 64)))
    return torch.Tensor(unet(latents, torch.tensor([20, 700]), texts).sample)


def change(pipeline: Any, path: Path) -> torch.Tensor:
    """Return what an adapter adds to a UNet's answers; it is taken out again."""
    alone = answer(pipeline.unet)
    adapter = adapters.apply(pipeline, path, alpha=None)
    found = answer(pipeline.unet) - alone
    adapter.remove()
    assert torch.equal(answer(pipeline.unet), alone)
    return found


def write(base: Path, path: Path, name: str) -> None:
    if name in {"lora", "dora"}:
        unet = DiffusionPipeline.from_pretrained(base).unet
        state, config = forms.trained(unet, LINEAR, 1, dora=name == "dora")
        forms.written("diffusers", path, state, config)
    else:
        forms.write_lycoris(base, path, name)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["lora", "dora", "locon", "loha", "lokr", "lokr-full"])
@pytest.mark.thorough(but=2)
def test_it_adds_the_same_to_a_base_in_few_bits(
    base: Path, tmp_path: Path, precision: str, name: str
) -> None:
    """What it adds is off by no more than the base itself is, by and large."""
    pipeline = DiffusionPipeline.from_pretrained(base)
    write(base, tmp_path / LORA, name)
    expected, plain = change(pipeline, tmp_path / LORA), answer(pipeline.unet)
    quantise(pipeline.unet, precision, "cpu")
    found = change(pipeline, tmp_path / LORA)
    off = (answer(pipeline.unet) - plain).norm() / plain.norm()
    assert (found - expected).norm() <= max(12 * off, 0.1) * expected.norm()


def test_nothing_is_said_that_nobody_can_act_on(base: Path, tmp_path: Path) -> None:
    """PEFT remarks that it cannot merge into torchao's layers; what others warn of stays."""
    pipeline = DiffusionPipeline.from_pretrained(base)
    write(base, tmp_path / LORA, "lora")
    quantise(pipeline.unet, "int8-torchao", "cpu")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quiet()
        adapters.apply(pipeline, tmp_path / LORA, alpha=None).remove()
        warnings.warn("heard", stacklevel=1)
    assert [str(it.message) for it in said] == ["heard"]


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["locon-dora", "full-norm", "lokr-tucker"])
def test_what_would_do_something_else_there_is_refused(
    base: Path, tmp_path: Path, precision: str, name: str
) -> None:
    """LyCORIS's DoRA would not act on a quantised layer, and full has no weight to add to."""
    pipeline = DiffusionPipeline.from_pretrained(base)
    write(base, tmp_path / LORA, name)
    quantise(pipeline.unet, precision, "cpu")
    alone = answer(pipeline.unet)
    with pytest.raises(EvaluationError, match=r"quantised|cannot rebuild") as told:
        adapters.apply(pipeline, tmp_path / LORA, alpha=None)
    assert told.value.kind == "weights"
    assert torch.equal(answer(pipeline.unet), alone)


def test_a_convolution_that_peft_cannot_adapt_is_told(base: Path, tmp_path: Path) -> None:
    """PEFT makes convolutions of quanto's own class, which have no weight of their own."""
    pipeline = DiffusionPipeline.from_pretrained(base)
    forms.written("diffusers", tmp_path / LORA, *forms.unet_lora(base, 1))
    quantise(pipeline.unet, "int8-quanto", "cpu")
    modules = dict(pipeline.unet.named_modules())
    with pytest.raises(EvaluationError, match=r"PEFT cannot adapt .* which is a QConv2d"):
        adapters.apply(pipeline, tmp_path / LORA, alpha=None)
    assert dict(pipeline.unet.named_modules()) == modules


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("algo", ["locon", "lokr", "lokr-tucker", "full-norm", "glora"])
@pytest.mark.thorough
def test_where_the_base_waits_changes_no_score(
    base: Path, tmp_path: Path, offload: Offload, algo: str
) -> None:
    """A network goes with the parts that it acts on, in and out."""
    forms.write_lycoris(base, tmp_path / LORA, algo)
    plain, waiting = Evaluator(), Evaluator()
    for strength in (1.0, 0.5):
        how = kit.protocol(base, adapter_strength=strength)
        expected = kit.scores_of(plain, forms.request(tmp_path, "live", how))
        request = forms.request(tmp_path, "live", replace(how, offload=offload))
        found = kit.scores_of(waiting, request)
        assert [it.score for it in found] == pytest.approx([it.score for it in expected], abs=1e-6)
        alone = kit.request(base, "base", kit.protocol(base, offload=offload), files=())
        assert kit.scores_of(waiting, alone) != found
