"""The trainer's keys become what its validation would do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.protocol import Part, SkipLayers
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings, load
from clipwatch.settings.simpletuner import reading
from clipwatch.settings.simpletuner.rules import mistaken
from simpletuner_kit import install, read

VAE = Part("vae", "madebyollin/sdxl-vae-fp16-fix")


def origin(settings: Settings, key: str) -> tuple[Any, str]:
    """Return value and source as --print-settings shows them."""
    return next((it.value, it.source) for it in settings.origins if it.key == key)


FOLLOWED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"prediction_type": "", "zero_snr": False, "timestep_spacing": "", "flow_shift": None}),
    ({}, {"rules": "simpletuner", "seeds": "per-prompt", "offload": "none", "lora_alpha": None}),
    # the sampler
    ({"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction"}),
    ({"rescale_betas_zero_snr": True}, {"zero_snr": True}),
    ({"model_family": "sd2x"}, {"zero_snr": True, "scheduler": "euler"}),
    ({"inference_scheduler_timestep_spacing": "leading"}, {"timestep_spacing": "leading"}),
    ({"model_family": "kandinsky5-image"}, {"scheduler": "euler", "flow_shift": 3.0}),
    ({"model_family": "kandinsky5_image", "flow_schedule_shift": 5}, {"flow_shift": 5.0}),
    ({"model_family": "kandinsky5_image", "flow_schedule_auto_shift": True}, {"flow_shift": None}),
    ({"model_family": "sd3", "flow_schedule_shift": 5}, {"scheduler": "", "flow_shift": 5.0}),
    ({"model_family": "z_image"}, {"scheduler": "", "flow_shift": 3.0}),
    ({"model_family": "sana", "flow_schedule_shift": 5}, {"scheduler": "", "flow_shift": None}),
    ({"prediction_type": "flow_matching"}, {"scheduler": "ddim", "flow_shift": None}),
    (
        {"model_family": "sd3", "flow_schedule_shift": 5, "validation_noise_scheduler": "unipc"},
        {"scheduler": "unipc", "flow_shift": 5.0},
    ),
    (
        {"model_family": "flux", "validation_noise_scheduler": "euler"},
        {"scheduler": "euler", "flow_shift": None},  # its shift goes by the size of the picture
    ),
    ({"model_family": "sana", "validation_noise_scheduler": "unipc"}, {"scheduler": ""}),
    ({"model_family": "flux", "prediction_type": "flow_matching"}, {"prediction_type": ""}),
    # guidance
    ({"validation_guidance_real": 4}, {"guidance_real": 1.0}),
    (
        {"model_family": "flux", "validation_guidance_real": 4},
        {"guidance_real": 4.0, "no_cfg_until": 2, "guidance": 7.5},
    ),
    ({"model_family": "flux"}, {"guidance_real": 1.0, "no_cfg_until": 0}),
    ({"model_family": "qwen_image", "validation_guidance_real": 4}, {"no_cfg_until": 0}),
    (
        {"model_family": "flux2", "validation_guidance": 4, "validation_no_cfg_until_timestep": 3},
        {"guidance": 1.0, "guidance_real": 4.0, "no_cfg_until": 3},
    ),
    (
        {"model_family": "flux2", "model_flavour": "dev", "validation_guidance": 4},
        {"guidance": 4.0, "guidance_real": 1.0},
    ),
    (
        {"model_family": "flux", "model_flavour": "libreflux", "validation_num_inference_steps": 9},
        {"guidance_real": 6.0, "inference_steps": 28},
    ),
    ({"validation_guidance_rescale": 0.7}, {"guidance_rescale": 0.0}),
    ({"model_family": "sd3", "validation_guidance_skip_layers": [7, 8]}, {"skip_layers": None}),
    (
        {
            "model_family": "sd3",
            "validation_guidance_skip_layers": "[7, 8, 9]",
            "validation_guidance_skip_scale": 3,
        },
        {"skip_layers": SkipLayers((7, 8, 9), 3.0, 0.01, 0.2)},
    ),
    # adapters
    ({"model_type": "lora", "validation_adapter_strength": 0.5}, {"adapter_strength": 0.5}),
    ({"model_type": "full", "validation_adapter_strength": 0.5}, {"adapter_strength": 1.0}),
    (
        {"model_type": "lora", "lora_type": "lycoris", "validation_lycoris_strength": 1.3},
        {"adapter_strength": 1.3},
    ),
    (
        {"model_type": "lora", "lora_type": "lycoris", "validation_lycoris_strength": 0},
        {"adapter_strength": 1.0},
    ),
    ({"lora_alpha": 32, "lora_rank": 16}, {"lora_alpha": 32.0}),
    ({"lora_alpha": 16, "lora_rank": 16}, {"lora_alpha": None}),
    # precision
    ({"vae_dtype": "fp32"}, {"dtype": "bf16", "vae_dtype": "fp32"}),
    ({"vae_dtype": "default", "mixed_precision": "no"}, {"dtype": "fp32", "vae_dtype": "bf16"}),
    ({"model_family": "sana"}, {"vae_dtype": "fp32"}),
    ({"model_family": "flux2", "vae_dtype": "fp32"}, {"vae_dtype": ""}),
    ({"model_type": "full", "base_model_precision": "int8-quanto"}, {"base_precision": ""}),
    ({"model_type": "lora", "base_model_precision": "int8-sdnq"}, {"base_precision": ""}),
    # text
    ({"model_family": "sd3", "tokenizer_max_length": 77}, {"text_length": 77}),
    ({"model_family": "sd3", "tokenizer_max_length": 512}, {"text_length": None}),
    ({"model_family": "flux", "tokenizer_max_length": 77}, {"text_length": None}),
    ({"model_family": "flux", "model_flavour": "schnell"}, {"text_length": 256}),
    ({"model_family": "auraflow", "model_flavour": "pony"}, {"text_length": 768}),
    (
        {"model_family": "sana", "sana_complex_human_instruction": "Be brief. \nPrompt: "},
        {"instruction": "Be brief.\nPrompt:"},
    ),
    # sizes
    ({"validation_resolution": "1024x768,512"}, {"width": 1024, "height": 768}),
    (
        {
            "model_family": "deepfloyd",
            "model_flavour": "i-medium-400m",
            "validation_resolution": "512x512",
            "validation_num_inference_steps": 50,
        },
        {"width": 128, "height": 128, "inference_steps": 30},
    ),
]


@pytest.mark.parametrize(("keys", "expected"), FOLLOWED)
def test_a_key_is_followed_by_the_trainers_rule(
    tmp_path: Path, keys: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A configuration gives the protocol of the pictures that the trainer's validation makes."""
    protocol = read(tmp_path, keys).protocol
    assert {name: getattr(protocol, name) for name in expected} == expected


def parts(folder: Path, keys: dict[str, Any]) -> tuple[Part, ...]:
    """Return the components that are not the base model's own."""
    return read(folder, keys).protocol.parts


def test_the_default_vae_is_the_familys(tmp_path: Path) -> None:
    """SDXL, Kolors and PixArt by its older name have SimpleTuner's; others have the base's."""
    assert parts(tmp_path, {}) == (VAE,)
    assert parts(tmp_path, {"model_family": "kolors"}) == (VAE,)
    assert parts(tmp_path, {"model_family": "pixart_sigma"}) == (VAE,)
    assert parts(tmp_path, {"model_family": "pixart"}) == ()
    assert parts(tmp_path, {"model_family": "flux"}) == ()
    assert parts(tmp_path, {"pretrained_vae_model_name_or_path": "none"}) == ()
    (fixed,) = parts(tmp_path, {"model_family": "qwen_image"})
    assert fixed.model == "madebyollin/texture-fix-vae-for-qwen-image-2.1"
    assert fixed.revision.startswith("e9f84623")


def test_a_vae_of_sdxl_is_left_out_elsewhere(tmp_path: Path) -> None:
    """As the trainer does, with a word."""
    settings = read(
        tmp_path,
        {"model_family": "flux", "pretrained_vae_model_name_or_path": "me/sdxl-vae"},
    )
    assert settings.protocol.parts == ()
    assert any("leaves out a VAE with sdxl" in it for it in settings.remarks)


def test_parts_come_from_folders_and_the_hub(tmp_path: Path) -> None:
    """A VAE lies in `vae` or at the top; revision and variant of the base hold for all."""
    for folder in ("whole/vae", "bare", "unet"):
        (tmp_path / folder).mkdir(parents=True)
    keys = {"revision": "main2", "variant": "fp16", "pretrained_model_name_or_path": "me/base"}
    named = {
        "pretrained_vae_model_name_or_path": "./whole",
        "pretrained_unet_model_name_or_path": "./unet",
        "pretrained_unet_subfolder": "None",
    }
    assert parts(tmp_path, keys | named) == (
        Part("unet", str(tmp_path / "unet"), "", "", "fp16"),
        Part("vae", str(tmp_path / "whole"), "vae", "", "fp16"),
    )
    named = {
        "pretrained_vae_model_name_or_path": "./bare",
        "pretrained_unet_model_name_or_path": "me/unet",
    }
    assert parts(tmp_path, keys | named) == (
        Part("unet", "me/unet", "unet", "main2", "fp16"),
        Part("vae", str(tmp_path / "bare"), "", "", "fp16"),
    )


def test_other_transformers_and_encoders(tmp_path: Path) -> None:
    """A family's denoiser and the text encoders that it has can come from elsewhere."""
    flux = {
        "model_family": "flux",
        "pretrained_model_name_or_path": "me/flux",
        "pretrained_transformer_model_name_or_path": "me/flux-pro",
        "pretrained_transformer_subfolder": "none",
        "pretrained_vae_model_name_or_path": "me/flux",
        "pretrained_unet_model_name_or_path": "me/unet",
    }
    settings = read(tmp_path, flux)
    assert settings.protocol.parts == (Part("transformer", "me/flux-pro"),)
    assert any("flux has no unet" in it for it in settings.remarks)
    assert parts(tmp_path, {"model_family": "z_image", "model_flavour": "ostris-de-turbo"}) == (
        Part("transformer", "ostris/Z-Image-De-Turbo", "transformer"),
    )
    gemma = {"pretrained_gemma_model_name_or_path": "me/gemma"}
    assert parts(tmp_path, {"model_family": "sana", **gemma}) == (
        Part("text_encoder", "me/gemma", "text_encoder"),
        Part("tokenizer", "me/gemma", "tokenizer"),
    )
    qwen = {"qwen_text_encoder_model_name_or_path": "me/qwen"}
    assert parts(tmp_path, {"model_family": "flux2", **qwen}) == (Part("text_encoder", "me/qwen"),)
    pony = parts(tmp_path, {"model_family": "auraflow", "model_flavour": "pony"})
    assert {(it.name, it.model) for it in pony} == {
        ("text_encoder", "terminusresearch/auraflow-v0.3"),
        ("tokenizer", "terminusresearch/auraflow-v0.3"),
    }


def test_what_is_set_for_clipwatch_alone_is_taken_as_it_stands(tmp_path: Path) -> None:
    """The trainer's bounds and bans hold for its own keys."""
    own = {
        "validation_noise_scheduler": "euler",
        "validation_guidance_real": 4,
        "validation_adapter_strength": 0,
        "tokenizer_max_length": 512,
        "vae_dtype": "fp32",
        "base_precision": "none",
    }
    keys = {"model_family": "sana", "model_type": "lora", "base_model_precision": "int8-quanto"}
    protocol = read(tmp_path, keys, **own, offload="group", seeds="trainer").protocol
    assert (protocol.scheduler, protocol.guidance_real) == ("euler", 4.0)
    assert (protocol.adapter_strength, protocol.text_length) == (0.0, 512)
    assert (protocol.vae_dtype, protocol.base_precision) == ("fp32", "")
    assert (protocol.offload, protocol.seeds) == ("group", "trainer")


def test_on_a_cpu_all_is_float32(tmp_path: Path) -> None:
    """The VAE too, whatever the training's precision is, unless a dtype is named."""
    protocol = read(tmp_path, {"vae_dtype": "bf16"}, device="cpu").protocol
    assert (protocol.dtype, protocol.vae_dtype) == ("fp32", "")
    protocol = read(tmp_path, {}, device="cpu", dtype="bf16").protocol
    assert (protocol.dtype, protocol.vae_dtype) == ("bf16", "")


@pytest.mark.parametrize(
    ("keys", "trainers", "ours"),
    [
        ({"validation_seed": 3, "seed": 5}, 3, 3),
        ({"validation_seed": 0, "seed": 5}, 5, 0),
        ({"validation_seed": -1, "seed": 5}, -1, 0),
        ({"validation_seed": None, "seed": 5}, 5, 5),
        ({"validation_seed": None, "seed": None}, 0, 0),
        ({"validation_seed": 0, "seed": None}, 0, 0),
        ({"validation_seed": None, "seed": 0}, 0, 0),
        ({"validation_seed": 0, "seed": -1}, 0, 0),
    ],
)
def test_the_trainers_seeds_fall_through_as_its_own(
    tmp_path: Path, keys: dict[str, Any], trainers: int, ours: int
) -> None:
    """For it validation_seed 0 is none and -1 is one; where it takes a new seed, that is told."""
    settings = read(tmp_path, keys, seeds="trainer")
    assert settings.protocol.seed == trainers
    changing = keys["seed"] in (0, -1) and not keys["validation_seed"]
    told = [remark for remark in settings.remarks if "another seed each time" in remark]
    assert len(told) == changing
    plain = read(tmp_path, keys)
    assert plain.protocol.seed == ours
    assert not any("another seed each time" in remark for remark in plain.remarks)


def test_the_dtype_follows_a_quantised_base(tmp_path: Path, monkeypatch: Any) -> None:
    """Over a quantised base base_model_default_dtype holds, and a package that lacks is named."""
    keys = {
        "model_type": "lora",
        "base_model_precision": "int8-quanto",
        "mixed_precision": "fp16",
    }
    monkeypatch.setattr(reading, "lacking", lambda _: "")
    protocol = read(tmp_path, keys).protocol
    assert (protocol.base_precision, protocol.dtype) == ("int8-quanto", "bf16")
    monkeypatch.setattr(reading, "lacking", lambda _: "quanto")
    with pytest.raises(SettingsError, match=r"base_model_precision: .*clipwatch\[quanto\]") as told:
        read(tmp_path, keys)
    assert told.value.exit_code == 2
    assert read(tmp_path, keys, base_precision="none").protocol.dtype == "fp16"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"model_family": "sd3", "validation_noise_scheduler": "ddim"}, "does not suit a flow-mat"),
        ({"model_type": "lora", "validation_adapter_strength": 0}, "must not be 0, as SimpleTuner"),
        ({"validation_guidance_skip_layers": "[7]"}, "does not start with it for sdxl"),
    ],
)
def test_what_the_trainer_refuses_is_refused(
    tmp_path: Path, keys: dict[str, Any], text: str
) -> None:
    """Two keys that do not go together end the start, with the one to change."""
    with pytest.raises(SettingsError, match=text):
        read(tmp_path, keys)


def test_the_version_says_whose_defaults_hold(tmp_path: Path) -> None:
    """The one that is named, else the installed one's, else the newest that is known."""
    qwen = {"model_family": "qwen_image"}
    newest = read(tmp_path, qwen)
    assert newest.protocol.base_model == "Qwen/Qwen-Image-2.1"
    assert origin(newest, "simpletuner_version") == ("4.10.1", "the newest that clipwatch knows")
    package = install(tmp_path / "site", "4.8.0")
    here = read(tmp_path, qwen, simpletuner_path="site")
    assert here.protocol.base_model == "Qwen/Qwen-Image-2512"
    value, source = origin(here, "simpletuner_version")
    assert value == "4.8.0"
    assert source.startswith("SimpleTuner config.json:")
    assert origin(here, "simpletuner_path")[0] == str(package)
    named = read(tmp_path, qwen, simpletuner_path="site", simpletuner_version="4.10.0")
    assert named.protocol.base_model == "Qwen/Qwen-Image-2512"
    assert "by 4.8.0's table" in origin(named, "simpletuner_version")[1]


@pytest.mark.parametrize(
    ("version", "table"), [("4.7.2", "4.8.0"), ("4.9.3", "4.8.0"), ("5.0.dev1", "4.10.1")]
)
def test_a_version_that_nobody_looked_at_is_told(tmp_path: Path, version: str, table: str) -> None:
    """With the one that stands in for it, named or installed; no note for one that is known."""
    (line,) = read(tmp_path, {}, simpletuner_version=version).remarks
    knows = f"of SimpleTuner clipwatch knows 4.8.0 and 4.10.1, and goes by {table} for {version}"
    assert line == f"config.json:8: simpletuner_version: {knows}"
    assert read(tmp_path, {}, simpletuner_version=table).remarks == ()
    install(tmp_path / "site", version)
    (line,) = read(tmp_path, {}, simpletuner_path="site").remarks
    assert line.endswith(knows)


@pytest.mark.parametrize("value", ["new", "4,8", "4.10.x", True, ["4.8.0"]])
def test_what_is_no_version_is_refused(tmp_path: Path, value: Any) -> None:
    """With the line of it, and the form of one."""
    with pytest.raises(SettingsError, match=r"config.json:8: simpletuner_version: must be") as told:
        read(tmp_path, {}, simpletuner_version=value)
    assert told.value.exit_code == 2


def test_a_family_of_another_version_says_so(tmp_path: Path) -> None:
    """What only a newer table has is not unknown."""
    with pytest.raises(SettingsError, match=r"has no family 'moss_image', but 4\.10\.1"):
        read(tmp_path, {"model_family": "moss_image"}, simpletuner_version="4.8.0")
    with pytest.raises(SettingsError, match=r"SimpleTuner 4\.10\.1 has it: set"):
        read(
            tmp_path,
            {"model_family": "qwen_image", "model_flavour": "v2.1"},
            simpletuner_version="4.8.0",
        )


def test_a_pipeline_that_is_named_for_clipwatch_is_taken_at_its_word(tmp_path: Path) -> None:
    """A family without a pipeline in diffusers may have one elsewhere."""
    with pytest.raises(SettingsError, match="'anima' cannot be scored"):
        read(tmp_path, {"model_family": "anima", "pretrained_model_name_or_path": "me/anima"})
    settings = read(tmp_path, {"model_family": "anima"}, pretrained_model_name_or_path="me/anima")
    assert settings.protocol.base_model == "me/anima"


def test_an_adapter_of_the_other_kind_is_told_with_both_strengths(tmp_path: Path) -> None:
    """Only where the file's own strength is another one; whole weights have none."""
    keys = {"model_type": "lora", "validation_adapter_strength": 0.5}
    standard = read(tmp_path, {**keys, "lora_type": "standard"})
    assert mistaken(standard, "lycoris") == (
        "it is a LyCORIS network, and lora_type is 'standard' (config.json:7): it acts at"
        " validation_adapter_strength 0.5, not at validation_lycoris_strength 1; set lora_type to"
        " 'lycoris'"
    )
    assert [mistaken(standard, it) for it in ("lora", "full", "pipeline", "base")] == [""] * 4
    lycoris = read(tmp_path, {**keys, "lora_type": "lycoris"})
    assert mistaken(lycoris, "lycoris") == ""
    assert "acts at validation_lycoris_strength 1, not at" in mistaken(lycoris, "lora")
    same = read(tmp_path, {"model_type": "lora", "lora_type": "lycoris"})
    assert mistaken(same, "lora") == ""
    assert mistaken(read(tmp_path, {**keys, "model_type": "full"}), "lycoris") == ""


def test_other_configurations_keep_diffusers_rules(tmp_path: Path) -> None:
    """A clipwatch.json for a script of one's own has none of SimpleTuner's defaults."""
    keys = {"output_dir": "out", "evaluation_type": "clip", "device": "cuda"}
    file = tmp_path / "clipwatch.json"
    file.write_text(json.dumps({**keys, "model_family": "sdxl"}))
    protocol = load(file, environ={}, cwd=tmp_path).protocol
    assert (protocol.rules, protocol.parts, protocol.vae_dtype) == ("", (), "")
