"""Configurations like those that SimpleTuner ships go through, or are refused for what they are.

CLIPWATCH_EXAMPLES names the package folder of an installed SimpleTuner, as
`.../site-packages/simpletuner`: then its own examples are read, too.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import jsonc, load
from clipwatch.settings.simpletuner import tables
from clipwatch.settings.simpletuner.tables import Family, Table
from simpletuner_kit import install

PACKAGE = os.environ.get("CLIPWATCH_EXAMPLES", "")
NEWEST = tables.table(tables.versions()[-1])
SHARED = {
    "model_type": "lora",
    "data_backend_config": "config/examples/data.json",
    "optimizer": "adamw_bf16",
    "report_to": "none",
    "seed": 42,
    "validation_prompt_library": False,
    "validation_prompt": "a fox in the snow",
    "validation_resolution": "1024x1024",
    "validation_guidance": 4.0,
    "validation_num_inference_steps": 20,
    "validation_seed": 42,
    "validation_steps": 50,
    "use_ema": False,
    "vae_batch_size": 1,
}
LIKE: dict[str, dict[str, Any]] = {
    "sdxl": {"model_family": "sdxl"},
    "flux": {"model_family": "flux", "model_flavour": "krea", "lora_rank": 16},
    "flux2": {"model_family": "flux2", "model_flavour": "klein-9b"},
    "kandinsky": {"model_family": "kandinsky5-image", "flow_schedule_shift": 3},
    "sd3": {"model_family": "sd3", "validation_guidance_skip_layers": [7, 8, 9]},
    "sana": {"model_family": "sana", "model_flavour": "sana1.5-1.6b-1024"},
    "z-image": {"model_family": "z_image", "model_flavour": "turbo"},
    "qwen-2.1": {
        "model_family": "qwen_image",
        "model_flavour": "v2.1",
        "validation_resolution": "512x512,1024x1024",
        "user_prompt_library": "config/examples/prompts.json",
    },
    "anima": {"model_family": "anima"},
    "wan": {"model_family": "wan", "validation_num_video_frames": 81},
    "minimax": {"model_family": "minimaxmusic", "validation_lyrics": "la la"},
    "cosmos3-video": {"model_family": "cosmos3", "validation_num_video_frames": 49},
    "kontext": {"model_family": "flux", "model_flavour": "kontext"},
    "controlnet": {"model_family": "sdxl", "controlnet": True},
    "bria": {"model_family": "bria"},
}


def why_not(known: Table, config: dict[str, Any]) -> str:
    """Return a word of the reason for which a configuration must be refused, "" for none.

    Told from the configuration and the trainer's table alone.
    """
    family = known.family(config["model_family"])
    if family is None:
        return "has no family"
    flavour = family.flavour(config.get("model_flavour") or family.default)
    frames = family.name == "cosmos3" and config.get("validation_num_video_frames")
    lycoris = config.get("lora_type") == "lycoris" and find_spec("lycoris") is None
    reasons = {
        "it makes sound": family.modality == "audio",
        "it makes video": family.modality == "video",
        "makes no pixels": family.name == "stable_cascade",
        "starts from pictures": flavour and flavour.edits,
        "cannot be scored": flavour and flavour.pipeline not in tables.pipelines()[1],
        "controlnet": config.get("controlnet"),
        "validation_num_video_frames": frames,
        "clipwatch[lycoris]": lycoris,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def check(known: Table, file: Path, package: Path, cwd: Path) -> None:
    """Read a configuration, and hold what comes of it against what it says."""
    config = {key.lstrip("-"): it for key, it in jsonc.read(file).values.items()}
    reason = why_not(known, config)
    flags = {
        "evaluation_type": "clip",
        "device": "cuda",
        "base_precision": "none",
        "simpletuner_path": str(package),
        "simpletuner_version": known.version,
    }
    if reason:
        with pytest.raises(SettingsError) as refused:
            load(file, flags=flags, environ={}, cwd=cwd)
        assert reason in str(refused.value)
        return
    settings = load(file, flags=flags, environ={}, cwd=cwd)
    protocol = settings.protocol
    family = known.family(config["model_family"])
    assert isinstance(family, Family)
    named = config.get("pretrained_model_name_or_path")
    flavour = family.flavour(config.get("model_flavour") or family.default)
    assert protocol.base_model == (named or (flavour and flavour.model))
    assert settings.paths.output_dir == cwd / config["output_dir"]
    assert not [it for it in settings.remarks if "not read" in it]
    if family.name == "deepfloyd":  # the first of its stages
        return
    size = str(config.get("validation_resolution", 256)).split(",")[0]
    width, _, height = size.partition("x")
    assert (protocol.width, protocol.height) == (int(width), int(height or width))
    assert protocol.inference_steps == config.get("validation_num_inference_steps", 30)
    guidance = {protocol.guidance, protocol.guidance_real}
    assert float(config.get("validation_guidance", 7.5)) in guidance
    assert protocol.seed == config["validation_seed"] if "validation_seed" in config else True
    texts = {prompt.text for prompt in protocol.prompts}
    if prompt := config.get("validation_prompt"):
        assert prompt in texts


@pytest.mark.parametrize("name", LIKE)
def test_a_configuration_like_the_shipped_ones(tmp_path: Path, name: str) -> None:
    """Read as the trainer does, or refused for the right reason."""
    package = install(tmp_path / "site", NEWEST.version)
    (package / "examples" / "prompts.json").write_text('{"a": "a hut"}')
    folder = tmp_path / "examples" / name
    folder.mkdir(parents=True)
    file = folder / "config.json"
    file.write_text(json.dumps({"output_dir": f"output/{name}", **SHARED, **LIKE[name]}))
    check(NEWEST, file, package, tmp_path)


@pytest.mark.skipif(not PACKAGE, reason="CLIPWATCH_EXAMPLES names no installed SimpleTuner")
def test_the_shipped_ones(tmp_path: Path) -> None:
    """Every config.json among the examples of the version that is installed there."""
    package = Path(PACKAGE).absolute()
    version = (package / "__init__.py").read_text().partition("__version__")[2].split('"')[1]
    files = sorted(package.glob("examples/*/config.json"))
    assert len(files) > 100
    for file in files:
        check(tables.table(tables.nearest(version)), file, package, tmp_path)
