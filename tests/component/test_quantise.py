"""Quantised bases: stored in few bits by the real libraries, the same picture every time."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation.quantise import quantise
from clipwatch.models import memory, precisions
from clipwatch.models.precisions import PRECISIONS
from evaluator_kit import QUIET, protocol

pytestmark = QUIET

HERE = ("int8-quanto", "int8-torchao", "fp8wo-torchao", "int8dq-torchao", "nf4-bnb")
"""One or more of each library, of those that a CPU can compute without a compiler."""


@pytest.fixture(scope="module")
def unet(base: Path) -> UNet2DConditionModel:
    """The demo's UNet in bf16, as trainers keep their bases."""
    return UNet2DConditionModel.from_pretrained(base / "unet", dtype=torch.bfloat16).eval()


@torch.no_grad()
def predict(unet: UNet2DConditionModel) -> torch.Tensor:
    """Return a prediction from fixed noise."""
    noise = torch.Generator().manual_seed(0)
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    sample = torch.randn(1, unet.config.in_channels, side, side, generator=noise)
    text = torch.randn(1, 8, width, generator=noise)
    found: torch.Tensor = unet(sample.bfloat16(), torch.tensor(500), text.bfloat16()).sample
    return found.float()


@pytest.mark.parametrize("name", HERE)
def test_stored_in_few_bits(unet: UNet2DConditionModel, name: str) -> None:
    """The prediction is near that of the whole weights, not equal to it, and always the same."""
    one, two = copy.deepcopy(unet), copy.deepcopy(unet)
    quantise(one, name, "cpu")
    quantise(two, name, "cpu")
    whole, found = predict(unet), predict(one)
    apart = float((found - whole).norm() / whole.norm())
    assert 1e-4 < apart < 0.1
    assert torch.equal(found, predict(two))
    plain = {it for it, part in unet.named_modules() if type(part) is torch.nn.Linear}
    stored = {
        it
        for it, part in one.named_modules()
        if it in plain and type(part.weight) not in (torch.Tensor, torch.nn.Parameter)
    }
    assert stored
    if name in ("int8-quanto", "int8-torchao"):  # the others leave out what does not fit
        assert stored == plain


def test_a_library_that_lacks_is_named(
    unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line to type; so is a precision that nobody knows."""
    monkeypatch.setattr(precisions, "find_spec", lambda _: None)
    with pytest.raises(EvaluationError, match=r"pip install 'clipwatch\[quanto\]'"):
        quantise(copy.deepcopy(unet), "int8-quanto", "cpu")
    with pytest.raises(EvaluationError, match="'int9' is not one of fp8-quanto, int2-quanto"):
        quantise(copy.deepcopy(unet), "int9", "cpu")


def test_less_memory_is_estimated(base: Path) -> None:
    """Fewer bits, parts one by one, layers one by one: each takes less than the one before."""
    how = protocol(base, dtype="bf16", width=16, height=16)
    ways = [
        how,
        replace(how, base_precision="int8-quanto"),
        replace(how, base_precision="nf4-bnb"),
        replace(how, base_precision="nf4-bnb", offload="model"),
        replace(how, base_precision="nf4-bnb", offload="group"),
    ]
    needed = [memory.needed(it, 1) for it in ways]
    assert None not in needed
    assert needed == sorted(needed, key=lambda it: -(it or 0))
    assert len({*needed[:4]}) == 4
    counted = memory.elements(how)
    assert counted is not None
    assert (needed[0] or 0) - (needed[1] or 0) == pytest.approx(
        counted["base/unet"] * (2 - PRECISIONS["int8-quanto"].bits / 8), abs=1
    )


def test_too_little_memory_is_told_with_a_way_out(base: Path) -> None:
    """The ways that are left: those that the protocol does not take already."""
    how = protocol(base)
    assert memory.outlook(how, 10**10, 2e10).endswith("20.0 GB are free")
    told = memory.outlook(how, 10**10, 5e9)
    assert told.endswith("it may not fit; offload or base_precision takes less")
    least = replace(how, offload="group", base_precision="nf4-bnb")
    assert memory.outlook(least, 10**10, 5e9).endswith("another device takes less")
