"""Fixtures of the tests that run clipwatch as a user does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipwatch.demo import models
from real_world import PROMPTS


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny base pipeline."""
    folder = tmp_path_factory.mktemp("base") / "base"
    models.write_base_pipeline(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, base: Path) -> Path:
    """Return a folder with a config.json; the trainer's TensorBoard run stands already."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "output/logs/shapes").mkdir(parents=True)
    (tmp_path / "output/logs/shapes/events.out.tfevents.1.host").touch()
    config = {
        "--output_dir": "output",
        "--evaluation_type": "clip",
        "--report_to": "tensorboard,wandb",
        "--tracker_project_name": "shapes",
        "--model_family": "sd1x",
        "--pretrained_model_name_or_path": str(base),
        "--pretrained_evaluation_model_name_or_path": str(models.CLIP),
        "--validation_resolution": "32x32",
        "--validation_num_inference_steps": "2",
        "--num_validation_images": "2",
        "clipwatch": {
            "prompts": "prompts.txt",
            "device": "cpu",
            "batch_size": 3,
            "state_dir": "state",
            "settle_seconds": 0.5,
            "rescan_seconds": 0.5,
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path
