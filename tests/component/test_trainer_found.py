"""Run directories as trainers left them: what of the settings is found in each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from clipwatch.settings.trainers import found
from clipwatch.settings.values import Size
from places import ROOT
from trainer_files import base, values
from trainer_runs import names, written

SD = {
    "validation_num_inference_steps": 30,
    "validation_guidance": 7.5,
    "validation_negative_prompt": "",
    "validation_noise_scheduler": "ddim",
    "inference_scheduler_timestep_spacing": "leading",
    "validation_resolution": (Size(64, 64),),
}
JOB = {
    "validation_num_inference_steps": 4,
    "validation_guidance": 4.0,
    "validation_negative_prompt": "",
    "validation_resolution": (Size(64, 64),),
    "validation_seed": 42,
}
ONE = {
    "validation_num_inference_steps": 4,
    "validation_guidance": 7.5,
    "validation_negative_prompt": "",
    "validation_noise_scheduler": "euler-a",
    "validation_resolution": (Size(64, 64),),
    "validation_seed": 42,
}
OWN = {"validation_negative_prompt": ""}
SMALL = OWN | {"validation_guidance": 7.5, "validation_resolution": (Size(512, 512),)}
LARGE = OWN | {"validation_guidance": 3.5, "validation_resolution": (Size(1024, 1024),)}
BASE = "pretrained_model_name_or_path"
SD15, FLUX, HUB = "base/sd15-tiny", "base/flux-tiny", "stable-diffusion-v1-5/stable-diffusion-v1-5"
NOWHERE = "told nowhere"
TRIGGER = "no trigger_word is set"
BACKUP = "backup/2026-11-28_00-00-56-backup-100-1-20/onetrainer_config/samples.json"

RUNS: dict[str, tuple[str, str, str, str, dict[str, Any], list[str]]] = {
    "kohya-lora": ("out", "kohya", SD15, "", SD, []),
    "kohya-locon": ("out", "kohya", SD15, "", SD, []),
    "kohya-dora": ("out", "kohya", "", "", SD, [NOWHERE]),
    "kohya-db-full": ("out", "kohya", "", "", SD, [NOWHERE]),
    "kohya-ti": ("out", "kohya", "", "", SD, [NOWHERE]),
    "kohya-db-diffusers": ("out", "diffusers_script", SD15, "", SMALL, []),
    "kohya-gui": (
        "out",
        "kohya",
        SD15,
        "sample/prompt.txt",
        SD
        | {
            "validation_num_inference_steps": 4,
            "validation_noise_scheduler": "euler-a",
            "inference_scheduler_timestep_spacing": "linspace",
        },
        [],
    ),
    "musubi-qwen": (
        "",
        "kohya",
        "",
        "",
        {
            "validation_num_inference_steps": 20,
            "validation_guidance": 4.0,
            "validation_negative_prompt": "",
            "validation_resolution": (Size(1328, 1328),),
        },
        ["'dit.safetensors', is not here"],
    ),
    "aitk-flux": ("my_first_flux_lora_v1", "ai_toolkit", FLUX, "config.yaml", JOB, [TRIGGER]),
    "aitk-flux-lokr": ("my_lokr", "ai_toolkit", FLUX, "config.yaml", JOB, [TRIGGER]),
    "onetrainer-lora-kohya_lora": (
        "",
        "onetrainer",
        HUB,
        "",
        {
            "validation_num_inference_steps": 20,
            "validation_guidance": 7.0,
            "validation_negative_prompt": "",
            "validation_noise_scheduler": "ddim",
            "validation_resolution": (Size(512, 512),),
            "validation_seed": 42,
        },
        ["/data/x/data/ot/samples.json', are not here"],
    ),
    "onetrainer-lora-legacy_lora": ("", "onetrainer", HUB, BACKUP, ONE, []),
    "onetrainer-loha": ("save", "onetrainer", "", "", {}, []),
    "onetrainer-oft_2": ("", "onetrainer", "", "", {}, []),
    "onetrainer-full-diffusers": ("", "diffusers_script", SD15, "", SMALL, []),
    "dp-flux": ("", "diffusion_pipe", FLUX, "", LARGE, []),
    "dp-qwen": ("20261127_10-00-00", "diffusion_pipe", FLUX, "", LARGE, []),
    "ed2": (
        "logs/proj-20261127-100000/ckpts",
        "everydream2",
        SD15,
        "",
        SD
        | {
            "validation_guidance": 7.0,
            "validation_seed": 555,
            "validation_resolution": (Size(512, 512),),
        },
        [],
    ),
    "df-ti": ("out", "", "", "", {}, []),
}
"""Run → the folder to name; the layout; base and prompts, "" for none; all else; remarks."""


def test_every_run_is_told_of() -> None:
    """None is left out; df-misc is a mixture of several trainers', made by hand."""
    assert RUNS.keys() | {"df-misc"} == set(names())


@pytest.mark.parametrize("run", RUNS)
def test_what_a_trainer_left_is_found(run: str, tmp_path: Path) -> None:
    """Each value, which its key's reader takes, and each remark; paths are of another machine."""
    below, trainer, model, prompts, expected, remarks = RUNS[run]
    for name in (SD15, FLUX):
        base(tmp_path, name)
    out = written(run, tmp_path / "runs" / run) / below
    told = found(out)
    assert told.trainer == trainer
    got = values(told)
    want = dict(expected)
    if model:
        want[BASE] = model if model == HUB else str(tmp_path / model)
    if prompts:
        want["prompts"] = str(out / prompts)
    assert got == want
    assert len(told.remarks) == len(remarks)
    assert all(it in said for it, said in zip(remarks, told.remarks, strict=True))
    assert all(given.trainers and given.source for _, given in told.keys)


def test_the_arguments_that_accelerate_writes(tmp_path: Path) -> None:
    """As train_dreambooth_lora_sdxl.py left them, with a base that is here."""
    logs = tmp_path / "out/logs/dreambooth-lora-sd-xl/1795821882.47048"
    logs.mkdir(parents=True)
    shutil.copy(ROOT / "tests/data/trainers/hparams.yml", logs)
    model = base(tmp_path, "base/sdxl-tiny")
    told = found(tmp_path / "out")
    assert (told.trainer, told.remarks) == ("diffusers_script", ())
    assert values(told) == {
        BASE: model,
        "validation_guidance": 5.0,
        "validation_negative_prompt": "",
        "validation_resolution": (Size(64, 64),),
    }


def test_without_the_base_one_line_says_which_key_to_set(tmp_path: Path) -> None:
    """It names file, line and what the training was made from."""
    out = written("kohya-gui", tmp_path) / "out"
    (remark,) = found(out).remarks
    assert remark == (
        "config_lora-20261127-231000.toml:14: pretrained_model_name_or_path: the base of this "
        "training, '/data/x/base/sd15-tiny', is not here: set pretrained_model_name_or_path "
        "(--base-model) to its folder of diffusers or its Hub id, such as "
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
