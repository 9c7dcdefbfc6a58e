"""A config that asks for far more layers than its weights have is refused before it is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import evaluator_kit as kit
from clipwatch.demo.models import CLIP, write_base_pipeline
from clipwatch.domain.protocol import Part, ScorerSpec
from clipwatch.evaluator.depth import check_depth
from clipwatch.evaluator.evaluate import Evaluator

pytestmark = [*kit.QUIET, pytest.mark.timeout(60)]  # a UNet of 100,000 blocks takes hours

DEEP = 100_000


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Folders: base and pipeline (whole pipelines), full (the UNet), vae, scorer."""
    write_base_pipeline(tmp_path / "base")
    shutil.copytree(tmp_path / "base", tmp_path / "pipeline")
    shutil.copytree(tmp_path / "base" / "unet", tmp_path / "full" / "unet")
    shutil.copytree(tmp_path / "base" / "vae", tmp_path / "vae")
    shutil.copytree(CLIP, tmp_path / "scorer")
    return tmp_path


def deepen(path: Path, key: str, value: Any) -> None:
    """Change a key of a config, or of an object in it."""
    config = json.loads(path.read_text())
    outer, _, inner = key.rpartition(".")
    (config[outer] if outer else config)[inner] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("base/unet", "layers_per_block", DEEP),
        ("base/unet", "block_out_channels", [32] * DEEP),
        ("base/unet", "transformer_layers_per_block", [1, DEEP]),
        ("base/text_encoder", "num_hidden_layers", DEEP),
        ("pipeline/vae", "layers_per_block", DEEP),
        ("vae", "layers_per_block", DEEP),
        ("scorer", "text_config.num_hidden_layers", DEEP),
        ("scorer", "vision_config.num_hidden_layers", DEEP),
    ],
)
def test_a_model_deeper_than_its_weights_is_refused(
    world: Path, place: str, key: str, value: Any
) -> None:
    """In one line that names the file and the key."""
    deepen(world / place / "config.json", key, value)
    parts = (Part("vae", str(world), "vae"),) if place == "vae" else ()
    how = kit.protocol(
        world / "base", scorers=(ScorerSpec("", str(world / "scorer")),), parts=parts
    )
    kind = "pipeline" if place.startswith("pipeline") else "full"
    failed = kit.failure(Evaluator(), kit.request(world / kind, kind, how))
    assert failed.kind == ("weights" if kind == "pipeline" else "model")
    name = key.rpartition(".")[2]
    assert f"{world / place / 'config.json'}: {name} asks for 100000 layers, and" in failed.reason
    assert "\n" not in failed.reason


def test_a_deep_model_with_its_weights_is_none_of_our_business(tmp_path: Path) -> None:
    """Each layer has tensors of its own; a hundred may share theirs."""
    config = {"num_layers": 300, "depth": 100, "block_out_channels": [4096], "n_blocks": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({str(n): np.zeros(1) for n in range(300)}, tmp_path / "model.safetensors")
    check_depth(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 301}))
    with pytest.raises(ValueError, match=r"num_layers asks for 301 layers.* are 300 tensors"):
        check_depth(tmp_path)
