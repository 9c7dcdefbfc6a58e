"""Values that follow from several keys, or from the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings, load
from clipwatch.settings.accelerator import found

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}


def read(folder: Path, keys: dict[str, Any], **flags: Any) -> EvaluationProtocol:
    """Load LEAST with other keys."""
    (folder / "config.json").write_text(json.dumps(LEAST | keys))
    return load(folder, flags=flags, environ={}, cwd=folder).protocol


@pytest.mark.parametrize(
    ("keys", "seed"),
    [
        ({"validation_seed": 0}, 0),
        ({"validation_seed": "3", "seed": 5}, 3),
        ({"validation_seed": -1}, 0),
        ({"seed": -1}, 0),
        ({"seed": None}, 0),
    ],
)
def test_seeds_are_fixed(tmp_path: Path, keys: dict[str, Any], seed: int) -> None:
    """validation_seed, else seed, else 0; 0 is a seed, and a seed of -1 is none."""
    assert read(tmp_path, keys).seed == seed


@pytest.mark.parametrize(
    ("family", "flavour", "repository", "scheduler"),
    [
        ("flux", "dev", "black-forest-labs/flux.1-dev", ""),
        ("flux", None, "black-forest-labs/flux.1-krea-dev", ""),
        ("pixart_sigma", None, "terminusresearch/pixart-900m-1024-ft-v0.6", "ddim"),
        ("kandinsky5-image", None, "kandinskylab/Kandinsky-5.0-T2I-Lite-sft-Diffusers", "euler"),
        ("kolors", None, "terminusresearch/kwai-kolors-1.0", "euler"),
    ],
)
def test_the_family_gives_the_base_model(
    tmp_path: Path, family: str, flavour: str | None, repository: str, scheduler: str
) -> None:
    """Without a named base model it is the flavour's or the family's, in any spelling."""
    protocol = read(tmp_path, {"model_family": family, "model_flavour": flavour})
    assert (protocol.base_model, protocol.scheduler) == (repository, scheduler)


def test_the_sampler_can_be_the_pipelines(tmp_path: Path) -> None:
    """`pipeline` keeps the base model's own sampler against the family's default."""
    assert read(tmp_path, {"clipwatch": {"validation_noise_scheduler": "pipeline"}}).scheduler == ""
    assert read(tmp_path, {"validation_noise_scheduler": "euler-a"}).scheduler == "euler-a"


@pytest.mark.parametrize(
    ("device", "keys", "dtype"),
    [
        ("cpu", {}, "fp32"),
        ("cuda", {}, "bf16"),
        ("cuda:1", {"mixed_precision": "no"}, "fp32"),
        ("cuda", {"mixed_precision": "fp8"}, "bf16"),
        ("cuda", {"mixed_precision": "fp16"}, "fp16"),
        ("cpu", {"clipwatch": {"dtype": "bf16"}}, "bf16"),
    ],
)
def test_the_dtype_follows_the_training(
    tmp_path: Path, device: str, keys: dict[str, Any], dtype: str
) -> None:
    """`auto` is the training's precision, and float32 on a CPU."""
    protocol = read(tmp_path, keys, device=device)
    assert protocol.dtype == dtype


@pytest.mark.parametrize(
    ("keys", "weights"),
    [
        ({"use_ema": True}, "live"),
        ({"ema_validation": "ema_only"}, "live"),
        ({"use_ema": True, "ema_validation": "ema_only"}, "ema"),
        ({"use_ema": 1, "ema_validation": "ema_only", "clipwatch": {"weights": "live"}}, "live"),
        ({"clipwatch": {"weights": "ema"}}, "ema"),
    ],
)
def test_the_weights_follow_the_validation(
    tmp_path: Path, keys: dict[str, Any], weights: str
) -> None:
    """Averaged weights are scored when the trainer validates only these, or when asked for."""
    assert read(tmp_path, keys).weights == weights


@pytest.mark.parametrize(
    ("nodes", "environ", "system", "expected"),
    [
        ({"/dev/nvidia3"}, {}, ("linux", "x86_64"), "cuda"),
        ({"/dev/kfd"}, {}, ("linux", "x86_64"), "cuda"),
        ({"/dev/nvidia0"}, {"CUDA_VISIBLE_DEVICES": ""}, ("linux", "x86_64"), "cpu"),
        ({"/dev/nvidia0"}, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ("linux", "x86_64"), "cpu"),
        ({"/dev/nvidia0"}, {"CUDA_VISIBLE_DEVICES": "1"}, ("linux", "x86_64"), "cuda"),
        ({"/dev/nvidia0"}, {"CUDA_VISIBLE_DEVICES": "MIG-1"}, ("linux", "x86_64"), "cuda"),
        (set(), {}, ("linux", "aarch64"), "cpu"),
        (set(), {}, ("darwin", "arm64"), "mps"),
        (set(), {}, ("darwin", "x86_64"), "cpu"),
    ],
)
def test_the_device_is_found_without_torch(
    nodes: set[str], environ: dict[str, str], system: tuple[str, str], expected: str
) -> None:
    """Device files, the platform and what the environment hides decide."""
    assert found(environ, nodes.__contains__, *system) == expected


def loaded(folder: Path, **own: Any) -> Settings:
    """Load a config whose object has a further scorer, "second", and other keys."""
    config = {"output_dir": "out", "pretrained_model_name_or_path": "me/model"}
    ours = {"evaluation_type": "clip", "scorers": {"second": "me/clip"}, **own}
    (folder / "config.json").write_text(json.dumps({**config, "clipwatch": ours}, indent=0))
    return load(folder / "config.json", environ={}, cwd=folder)


@pytest.mark.parametrize(
    ("written", "worth", "text"),
    [
        (None, {}, None),
        (0.01, {"": 0.01}, "0.01"),
        ("0.01", {"": 0.01}, "0.01"),
        (
            {"clip": 0.01, "second": "0.2"},
            {"": 0.01, "second": 0.2},
            '{"clip": 0.01, "second": 0.2}',
        ),
        ({"second": None}, {"second": None}, '{"second": null}'),
    ],
)
def test_what_matters_is_a_number_or_one_for_each_scorer(
    tmp_path: Path, written: object, worth: dict[str, float | None], text: str | None
) -> None:
    """One number is the first scorer's, which is called clip; the log has it as it was written."""
    settings = loaded(tmp_path, advice={"worth": written})
    assert settings.advice.worth == worth
    assert settings.as_text().get("advice.worth") == text


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"third": 0.1}, "there is no scorer 'third': known are clip, second"),
        ({"second": 0}, "must be a number above 0, not 0"),
        ([0.1], "must be a number above 0"),
        (0, "must be a number above 0, not 0"),
    ],
)
def test_what_matters_to_nobody_is_refused(tmp_path: Path, written: object, told: str) -> None:
    """The line names the key."""
    with pytest.raises(SettingsError, match=r"config\.json:\d+: advice\.worth: ") as refused:
        loaded(tmp_path, advice={"worth": written})
    assert told in str(refused.value)


def strengths_of(folder: Path, keys: dict[str, Any], **flags: Any) -> list[float]:
    """Return the strength of each protocol, the run's own first."""
    (folder / "config.json").write_text(json.dumps(LEAST | keys))
    made = load(folder, flags=flags, environ={}, cwd=folder).protocols
    assert len({it.at(0.0).digest for it in made}) == 1
    return [it.adapter_strength for it in made]


@pytest.mark.parametrize(
    ("keys", "flags", "strengths"),
    [
        ({}, {}, [1.0]),
        ({"clipwatch": {"strengths": []}}, {}, [1.0]),
        ({"clipwatch": {"strengths": None}}, {}, [1.0]),
        ({"clipwatch": {"strengths": [0.8]}}, {}, [0.8]),
        ({"clipwatch": {"strengths": 0.8}}, {}, [0.8]),
        ({"clipwatch": {"strengths": [0.6, 0.8]}}, {}, [0.6, 0.8]),
        ({"clipwatch": {"strengths": [0.6, 0.8, 1]}}, {}, [1.0, 0.6, 0.8]),
        ({}, {"strengths": "0.6, 0.8"}, [0.6, 0.8]),
        ({}, {"strengths": "[2]"}, [2.0]),
        ({"clipwatch": {"strengths": 0}}, {}, [0.0]),
        ({"clipwatch": {"strengths": [-1, 0, 1]}}, {}, [1.0, -1.0, 0.0]),
        ({}, {"strengths": "-1.5,0"}, [-1.5, 0.0]),
        (
            {"validation_adapter_strength": 0.8, "clipwatch": {"strengths": [0.6, 0.8]}},
            {},
            [0.8, 0.6],
        ),
        (
            {
                "lora_type": "lycoris",
                "validation_lycoris_strength": 1.3,
                "clipwatch": {"strengths": [1, 1.3]},
            },
            {},
            [1.3, 1.0],
        ),
    ],
)
def test_strengths_make_a_protocol_each(
    tmp_path: Path, keys: dict[str, Any], flags: dict[str, Any], strengths: list[float]
) -> None:
    """The trainer's own strength comes first if it is among them: its curve goes on."""
    assert strengths_of(tmp_path, keys, **flags) == strengths


def test_prompts_keep_a_strength_of_their_own_which_is_said(tmp_path: Path) -> None:
    """Where all have one, several strengths would be the same pictures, and are refused."""
    own = {"a": {"prompt": "a cat", "adapter_strength": 0.5}, "b": {"prompt": "a dog"}}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(own))
    keys = {"validation_adapter_strength": 0.9, "clipwatch": {"prompts": "prompts.json"}}
    (tmp_path / "config.json").write_text(json.dumps(LEAST | keys))
    told = load(tmp_path, flags={"strengths": "0.6,1"}, environ={}, cwd=tmp_path).remarks
    kept = "prompts with an adapter_strength of their own keep it at every strength: 1 of 2"
    assert told == (
        f"--strengths: {kept}",
        "--strengths: it stands in for the trainer's strength 0.9",
    )
    file.write_text(json.dumps({"a": own["a"]}))
    assert load(tmp_path, environ={}, cwd=tmp_path).remarks == ()
    assert load(tmp_path, flags={"strengths": "0.9"}, environ={}, cwd=tmp_path).remarks == ()
    with pytest.raises(SettingsError, match="--strengths: has no effect, as every prompt has an"):
        load(tmp_path, flags={"strengths": "0.6,1"}, environ={}, cwd=tmp_path)
