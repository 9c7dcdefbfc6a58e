"""Size, steps and guidance that cannot be meant are told by family, and nothing is refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from clipwatch.doctor.costs import pictures
from clipwatch.doctor.findings import Finding
from clipwatch.settings import load
from clipwatch.settings.simpletuner.tables import table as family_table
from clipwatch.settings.simpletuner.tables import versions
from clipwatch.settings.usual import table


def told(folder: Path, **keys: Any) -> list[str]:
    """Return what is doubted of a trainer's configuration."""
    config = folder / "config.json"
    own = {"evaluation_type": "clip"}
    config.write_text(json.dumps({"output_dir": "out", "clipwatch": own, **keys}))
    return list(load(config, environ={}, cwd=folder).doubts)


def test_steps_and_guidance_of_lcm_are_its_own_unless_they_are_set(tmp_path: Path) -> None:
    """With its sampler 4 steps without guidance are usual, and 30 or 7.5 are doubted."""
    config = tmp_path / "config.json"
    keys = {"output_dir": "out", "pretrained_model_name_or_path": "org/stable-diffusion"}
    own = {"evaluation_type": "clip", "validation_noise_scheduler": "lcm"}
    config.write_text(json.dumps(keys | {"clipwatch": own}))
    made = load(config, environ={}, cwd=tmp_path).protocol
    assert (made.scheduler, made.inference_steps, made.guidance) == ("lcm", 4, 1.0)
    config.write_text(json.dumps(keys | {"clipwatch": own | {"validation_guidance": 2}}))
    made = load(config, environ={}, cwd=tmp_path).protocol
    assert (made.inference_steps, made.guidance) == (4, 2.0)
    sensible = {"model_family": "sd1x", "validation_resolution": 512, **own}
    assert told(tmp_path, **sensible) == []
    (many,) = told(tmp_path, **sensible, validation_num_inference_steps=30)
    assert "30 are many for sd1x lcm, made for 8 at most" in many


SENSIBLE = {
    "sd1x": (512, 7.5, 30),
    "sdxl": (1024, 5.0, 30),
    "sd3": (1024, 5.0, 30),
    "flux": (1024, 3.5, 28),
    "sana": (1024, 4.5, 20),
    "qwen_image": (1024, 7.5, 30),
}


@pytest.mark.parametrize("family", SENSIBLE)
def test_what_is_usual_is_not_remarked(tmp_path: Path, family: str) -> None:
    """Nor is half the side, on which people save time."""
    side, guidance, steps = SENSIBLE[family]
    keys = {
        "model_family": family,
        "validation_guidance": guidance,
        "validation_num_inference_steps": steps,
    }
    assert told(tmp_path, validation_resolution=side, **keys) == []
    assert told(tmp_path, validation_resolution=side // 2, **keys) == []


@pytest.mark.parametrize("family", SENSIBLE)
def test_the_trainers_default_size_is_too_small_for_each(tmp_path: Path, family: str) -> None:
    """256 is nobody's choice; a size that was chosen must be less than half the usual side."""
    side = SENSIBLE[family][0]
    (first, *_) = told(tmp_path, model_family=family)
    assert first.startswith("default: validation_resolution: 256x256 is small for")
    assert first.endswith(f"usually {side}x{side}: set validation_resolution")
    small = side // 2 - 16
    (chosen, *_) = told(tmp_path, model_family=family, validation_resolution=f"{small}x{small}")
    assert chosen.startswith(f"config.json:1: validation_resolution: {small}x{small} is small")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model_family": "sdxl", "validation_guidance": 12}, "12 is strong for sdxl"),
        ({"model_family": "sdxl", "validation_guidance": 1}, "1 is none for sdxl"),
        ({"model_family": "sd1x", "validation_num_inference_steps": 5}, "5 are few for sd1x"),
        ({"model_family": "flux"}, "7.5 is strong for flux, whose guidance is usually 3.5: set"),
        ({"model_family": "flux", "validation_guidance": 7.5}, "7.5 is strong for flux"),
        ({"model_family": "sana"}, "7.5 is strong for sana, whose guidance is usually 4.5"),
        ({"model_family": "flux", "model_flavour": "schnell"}, "30 are many for flux schnell"),
        ({"model_family": "z_image"}, "7.5 is strong for z_image turbo, made for none: 0"),
        ({"model_family": "hidream", "model_flavour": "fast"}, "7.5 is strong for hidream HiDream"),
        (
            {"pretrained_model_name_or_path": "stabilityai/sdxl-turbo"},
            "30 are many for StableDiffusionXLPipeline sdxl-turbo, made for 4 at most",
        ),
        (
            {"pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0"},
            "256x256 is small for StableDiffusionXLPipeline, whose pictures are usually 1024x1024",
        ),
        ({"model_family": "sd1x", "validation_resolution": "2048x2048"}, "2048x2048 is large"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    """One line a key, with what is usual."""
    assert sum(words in line for line in told(tmp_path, **keys)) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"model_family": "flux", "validation_guidance": 4.5},
        {"model_family": "flux", "validation_guidance": 7.5, "validation_guidance_real": 3},
        {"model_family": "flux", "model_flavour": "schnell", "validation_num_inference_steps": 4},
        {"model_family": "z_image", "model_flavour": "ostris-de-turbo", "validation_guidance": 3},
        {"model_family": "sdxl", "validation_guidance": 9},
        {"model_family": "deepfloyd", "model_flavour": "i-large-900m"},
        {"pretrained_model_name_or_path": "someone/a-model-that-nobody-knows"},
    ],
)
def test_what_may_be_meant_is_not_remarked(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Guidance that a model does not hear, a distillation undone, stage I, a stranger."""
    size = (
        {} if keys.get("model_family") in (None, "deepfloyd") else {"validation_resolution": 1024}
    )
    assert told(tmp_path, **size, **keys) == []


def pipeline(folder: Path, name: str, **parts: dict[str, Any]) -> str:
    """Write the configs of a local pipeline; return its folder."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    for part, config in parts.items():
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_local_pipeline_says_itself_what_it_is_made_for(tmp_path: Path) -> None:
    """By class, sample_size and the VAE's halvings, whatever the family's usual model has."""
    tiny = pipeline(
        tmp_path / "tiny",
        "StableDiffusionXLPipeline",
        unet={"sample_size": 64},
        vae={"block_out_channels": [1, 2, 4, 4]},
    )
    keys = {"pretrained_model_name_or_path": tiny}
    assert told(tmp_path, **keys, validation_resolution="256x256") == []
    (line,) = told(tmp_path, **keys, validation_resolution="240x240")
    assert "usually 512x512" in line


@pytest.mark.parametrize(
    ("sample", "blocks"),
    [
        (0, [1]),
        (-64, [1, 2]),
        (10**300, [1]),
        (64, [1] * 20_000),
        ("64", [1]),
        (64, {}),
        (None, []),
    ],
)
def test_a_config_that_makes_no_sense_is_left_to_the_loading(
    tmp_path: Path, sample: object, blocks: object
) -> None:
    """Then the class's usual side counts."""
    odd = pipeline(
        tmp_path / "odd",
        "StableDiffusionXLPipeline",
        unet={"sample_size": sample},
        vae={"block_out_channels": blocks},
    )
    lines = told(tmp_path, pretrained_model_name_or_path=odd, validation_resolution="64x64")
    assert "usually 1024x1024" in lines[0]


@pytest.mark.parametrize("embeds", [True, False])
def test_guidance_that_a_local_flux_has_no_place_for_is_not_remarked(
    tmp_path: Path, embeds: bool
) -> None:
    """Its transformer's config tells whether guidance is embedded."""
    local = pipeline(
        tmp_path / "flux-like", "FluxPipeline", transformer={"guidance_embeds": embeds}
    )
    lines = told(tmp_path, pretrained_model_name_or_path=local, validation_resolution=1024)
    assert any("7.5 is strong" in line for line in lines) is embeds


def test_doctor_warns_of_them(tmp_path: Path) -> None:
    """In one finding, which tells how the pictures are made when all is well."""
    config = {"output_dir": "out", "model_family": "sdxl"}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def finding(**flags: Any) -> Finding:
        told = {"evaluation_type": "clip", **flags}
        return pictures(load(tmp_path, flags=told, environ={}, cwd=tmp_path))

    doubtful = finding()
    assert (doubtful.verdict, "256x256 is small" in doubtful.found) == ("warn", True)
    well = finding(validation_resolution=1024, validation_guidance=5)
    assert (well.verdict, well.found) == ("ok", "1024x1024, 30 steps, guidance 5")


def test_the_table_is_that_of_diffusers() -> None:
    """Steps, guidance and, where its class has one, the side are its own defaults."""
    for name, usual in table()["pipelines"].items():
        known = inspect.signature(getattr(diffusers, name).__call__).parameters
        assert known["num_inference_steps"].default == usual["steps"], name
        if "guidance" in usual:
            assert known["guidance_scale"].default == usual["guidance"], name
        height, width = known["height"].default, known["width"].default
        if height is not None:
            assert (height * width) ** 0.5 == pytest.approx(usual["side"], rel=0.01), name


def test_the_table_has_the_families_that_can_be_scored() -> None:
    """Each pipeline of an image family that diffusers has, but those that set their own rules."""
    left_out = {"Ideogram4Pipeline", "Cosmos3OmniPipeline", "StableCascadePriorPipeline"}
    used = {
        flavour["pipeline"]
        for version in versions()
        for family in family_table(version).families.values()
        for flavour in family["flavours"].values()
        if family["modality"] == "image" and "pipeline" in flavour and not flavour.get("edits")
    }
    scored = {name for name in used if hasattr(diffusers, name)} - left_out
    assert scored <= table()["pipelines"].keys()


def test_without_a_configuration_the_base_model_goes_before_its_pipeline(tmp_path: Path) -> None:
    """A trainer without sampling of its own leaves it to the pipeline, whose base may be distilled.

    With a size of the training's own, that holds.
    """
    base = pipeline(
        tmp_path / "sdxl-turbo",
        "StableDiffusionXLPipeline",
        unet={"sample_size": 64},
        vae={"block_out_channels": [1, 2, 4, 4]},
    )
    checkpoint = tmp_path / "out/checkpoint-5"
    checkpoint.mkdir(parents=True)
    told = {"base_model_name_or_path": base}
    (checkpoint / "adapter_config.json").write_text(json.dumps(told))
    found = load(None, flags={"output_dir": "out"}, environ={}, cwd=tmp_path)
    made = found.protocol
    assert found.source("pretrained_model_name_or_path").startswith("adapter_config.json")
    assert (made.width, made.inference_steps, made.guidance) == (512, 9, 0.0)
    assert found.doubts == ()
    arguments = tmp_path / "out/logs/sdxl/1/hparams.yml"
    arguments.parent.mkdir(parents=True)
    arguments.write_text(f"pretrained_model_name_or_path: {base}\nresolution: 384\n")
    found = load(None, flags={"output_dir": "out"}, environ={}, cwd=tmp_path)
    assert (found.protocol.width, found.protocol.guidance) == (384, 0.0)
