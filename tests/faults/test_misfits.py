"""Parts of a pipeline that do not fit each other: told in one line, and not tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

import embedding_kit as families
import embedding_parts as parts
import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.protocol import Part
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import misshapen
from clipwatch.evaluator.generation.latents import channels

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


@pytest.mark.parametrize("family", sorted(families.FAMILIES | families.PLAIN))
def test_a_family_s_own_vae_fits(family: str) -> None:
    """No family's channels are taken for another's."""
    found = channels((families.FAMILIES | families.PLAIN)[family]())
    assert found is None or found[1] == found[2]


@pytest.mark.parametrize("family", ["StableDiffusionXLPipeline", "FluxPipeline", "SanaPipeline"])
def test_another_family_s_vae_is_seen(family: str) -> None:
    """A UNet, a transformer that packs its latents, and one that does not."""
    pipeline = families.FAMILIES[family]()
    pipeline.register_modules(vae=parts.vae(channels=16))
    found = channels(pipeline)
    assert found is not None
    assert found[2] == 16 != found[1]


def test_a_vae_of_other_channels_is_refused_by_name(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anything is generated, with both numbers and without a traceback."""
    config = dict(AutoencoderKL.load_config(base / "vae")) | {"latent_channels": 16}
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "vae")
    part = Part("vae", str(tmp_path), "vae")
    failed = kit.failure(Evaluator(), kit.request(base, "base", kit.protocol(base, parts=(part,))))
    assert failed.kind == "misfit"
    assert failed.reason.startswith(f"vae from {str(tmp_path)!r} decodes 16 channels, and the unet")
    assert failed.reason.endswith("makes 4 (pretrained_vae_model_name_or_path)")
    assert not [it for it in caplog.records if it.levelno >= logging.ERROR]


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("key", "factor", "words"),
    [
        ("hidden_size", 2, "shapes cannot be multiplied"),
        ("vocab_size", 0.1, "index out of range"),
    ],
)
def test_a_text_encoder_of_another_size_is_told_in_one_line(
    base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    key: str,
    factor: float,
    words: str,
) -> None:
    """It is found out in the first call; what torch says stands behind the parts' names."""
    config = CLIPTextConfig.from_pretrained(base / "text_encoder")
    setattr(config, key, int(getattr(config, key) * factor))
    with torch.random.fork_rng(devices=[]):
        CLIPTextModel(config).save_pretrained(tmp_path / "wide")
    part = Part("text_encoder", str(tmp_path / "wide"))
    failed = kit.failure(Evaluator(), kit.request(base, "base", kit.protocol(base, parts=(part,))))
    assert failed.kind == "misfit"
    assert f"text_encoder from {part.model!r}" in failed.reason
    assert "do not fit each other" in failed.reason
    assert words in failed.reason
    assert not [it for it in caplog.records if it.levelno >= logging.ERROR]


def test_torch_s_own_words_are_known() -> None:
    """Products, convolutions, sums, joins, views and norms each say it in their own way."""
    ones = torch.ones
    ways: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: ones(2, 3) @ ones(2, 3),
        lambda: ones(4, 2, 3) @ ones(4, 1, 2),
        lambda: torch.conv2d(ones(1, 4, 8, 8), ones(8, 16, 3, 3)),
        lambda: ones(2, 3) + ones(2, 4),
        lambda: torch.cat([ones(2, 3), ones(3, 4)]),
        lambda: ones(6).view(4, 2),
        lambda: torch.nn.functional.layer_norm(ones(2, 3), [4]),
        lambda: torch.nn.functional.embedding(torch.tensor([7]), ones(2, 3)),
    )
    for way in ways:
        with pytest.raises((RuntimeError, IndexError)) as told:
            way()
        assert misshapen(told.value), told.value
    assert not misshapen(RuntimeError("CUDA error: an illegal memory access was encountered"))
