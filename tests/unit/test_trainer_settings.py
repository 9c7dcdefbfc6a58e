"""What trainers' own files say of the settings: each trainer's forms, one by one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from clipwatch.settings.trainers import found
from clipwatch.settings.values import Size
from trainer_files import base, put, read, values, weights

SDXL = {"ss_network_module": "networks.lora", "ss_base_model_version": "sdxl_base_v1-0"}
SIZE, STEPS, GUIDANCE = (
    f"validation_{it}" for it in ("resolution", "num_inference_steps", "guidance")
)
SAMPLER, NEGATIVE, BASE = (
    "validation_noise_scheduler",
    "validation_negative_prompt",
    "pretrained_model_name_or_path",
)
LAST = "is not followed: clipwatch has the text encoder's own last layer"


def test_nothing_is_found_where_nothing_lies(tmp_path: Path) -> None:
    """No folder, an empty one, and weights that tell nothing."""
    assert found(tmp_path / "none") == found(tmp_path) == type(found(tmp_path))("", (), ())
    weights(tmp_path, "a.safetensors", format="pt")
    assert found(tmp_path).trainer == ""


# sd-scripts ---------------------------------------------------------------------------------------


def test_sd_scripts_defaults_hold_where_only_weights_lie(tmp_path: Path) -> None:
    """Its sampler's, and the size of the training, as there are no samples to follow."""
    weights(tmp_path, "a-000001.safetensors", **SDXL, **{"modelspec.resolution": "1024x1024"})
    told = found(tmp_path)
    assert told.trainer == "kohya"
    assert values(told) == {
        SIZE: (Size(1024, 1024),),
        STEPS: 30,
        GUIDANCE: 7.5,
        NEGATIVE: "",
        SAMPLER: "ddim",
        "inference_scheduler_timestep_spacing": "leading",
    }
    (remark,) = told.remarks
    assert remark == (
        "the base of this training is told nowhere: set pretrained_model_name_or_path "
        "(--base-model), such as stabilityai/stable-diffusion-xl-base-1.0"
    )


@pytest.mark.parametrize(
    ("metadata", "steps", "guidance", "side"),
    [
        ({"ss_base_model_version": "flux1"}, 20, 3.5, 512),
        ({"modelspec.architecture": "stable-diffusion-3-medium"}, 30, 7.5, 512),
        ({"ss_base_model_version": "qwen_image", "ss_num_train_items": "8"}, 20, 4.0, 256),
        ({"ss_base_model_version": "flux_kontext", "ss_num_train_items": "8"}, 20, 2.5, 256),
    ],
)
def test_each_architecture_has_its_own(
    metadata: dict[str, str], steps: int, guidance: float, side: int, tmp_path: Path
) -> None:
    """No sampler of a noise schedule for a flow."""
    weights(tmp_path, "a.safetensors", ss_network_module="networks.lora_x", **metadata)
    got = read(tmp_path)
    assert (got[STEPS], got[GUIDANCE], got[SIZE]) == (steps, guidance, (Size(side, side),))
    assert SAMPLER not in got


CONFIG = """\
pretrained_model_name_or_path = "/data/models/mine"
network_module = "networks.lora"
output_dir = "/data/out"
output_name = "shape"
sample_prompts = "/data/prompts.txt"
sample_sampler = "k_euler_a"
clip_skip = 2
v_parameterization = true
"""


def test_a_config_file_of_sd_scripts(tmp_path: Path) -> None:
    """Paths are of another machine; what lies here under their ends is meant."""
    mine = base(tmp_path, "models/mine")
    put(tmp_path, "out/train.toml", CONFIG)
    prompts = put(tmp_path, "prompts.txt", "a cat --w 64 --h 96 --s 4 --l 5\na dog --w 64\n")
    told = found(tmp_path / "out")
    got = values(told)
    assert (got[BASE], got["prompts"]) == (mine, str(prompts))
    assert (got[SAMPLER], got["prediction_type"]) == ("euler-a", "v_prediction")
    assert got["inference_scheduler_timestep_spacing"] == "linspace"
    assert (got[SIZE], got[STEPS], got[GUIDANCE]) == ((Size(512, 512),), 30, 7.5)
    assert (got["clip_skip"], told.remarks) == (2, ())
    put(tmp_path, "prompts.txt", "a cat --w 64 --h 96 --s 4 --l 5\n")
    got = read(tmp_path / "out")
    assert (got[SIZE], got[STEPS], got[GUIDANCE]) == ((Size(64, 96),), 4, 5.0)


def test_tables_of_a_config_file_are_one(tmp_path: Path) -> None:
    """As sd-scripts reads them."""
    config = '[model]\npretrained_model_name_or_path = "a/b"\n[train]\noutput_name = "x"\n'
    put(tmp_path, "c.toml", f'{config}network_module = "networks.lora_flux"\n')
    got = read(tmp_path)
    assert (got[BASE], got[STEPS]) == ("a/b", 20)


def test_a_config_above_counts_if_it_names_this_folder(tmp_path: Path) -> None:
    """Of several trainings each has its own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = CONFIG.replace("/data/out", f"/data/{name}").replace(
            "/data/models/mine", f"x/{name}"
        )
        put(tmp_path, f"{name}.toml", config)
    assert [read(tmp_path / it)[BASE] for it in ("one", "two")] == ["x/one", "x/two"]
    (tmp_path / "three").mkdir()
    assert found(tmp_path / "three").trainer == ""


def test_of_two_configs_that_of_the_weights_counts(tmp_path: Path) -> None:
    """By --output_name, though the other is newer."""
    put(tmp_path, "a.toml", CONFIG.replace("/data/models/mine", "x/shape"))
    put(
        tmp_path, "b.toml", CONFIG.replace("/data/models/mine", "x/other").replace("shape", "other")
    )
    os.utime(tmp_path / "a.toml", (1, 1))
    assert read(tmp_path)[BASE] == "x/other"
    weights(tmp_path, "shape-000001.safetensors", ss_output_name="shape", **SDXL)
    assert read(tmp_path)[BASE] == "x/shape"


SCRIPT = """\
accelerate launch \\
  --mixed_precision bf16 \\
  sd-scripts/flux_train_network.py \\
  --pretrained_model_name_or_path "/app/fluxgym/models/unet/flux1-dev.sft" \\
  --clip_l "/app/fluxgym/models/clip/clip_l.safetensors" \\
  --t5xxl "/app/fluxgym/models/clip/t5xxl_fp16.safetensors" \\
  --ae "/app/fluxgym/models/vae/ae.sft" \\
  --seed 42 --network_module networks.lora_flux \\
  --optimizer_type adamw8bit \\
  --sample_prompts="/app/fluxgym/outputs/cat/sample_prompts.txt" --sample_every_n_steps="100" \\
  --output_dir "/app/fluxgym/outputs/cat" \\
  --output_name cat \\
  --guidance_scale 1 --loss_type l2
"""
FLUX = (
    "train.sh:4: pretrained_model_name_or_path: the base of this training, "
    "'/app/fluxgym/models/unet/flux1-dev.sft', is not here: set pretrained_model_name_or_path "
    "(--base-model) to its folder of diffusers or its Hub id, such as "
    "black-forest-labs/FLUX.1-dev"
)


def test_the_script_of_fluxgym_is_read_and_never_run(tmp_path: Path) -> None:
    """Its base is a single file, so one line says which key to set."""
    put(tmp_path, "train.sh", f"{SCRIPT}touch {tmp_path}/ran\n")
    prompts = put(tmp_path, "sample_prompts.txt", "a cat --g 4 --l 1 --d 7\n")
    told = found(tmp_path)
    got = values(told)
    assert (got["prompts"], got["validation_seed"]) == (str(prompts), 7)
    assert (got[STEPS], got[GUIDANCE], got["validation_guidance_real"]) == (20, 4.0, 1.0)
    assert told.remarks == (FLUX,)
    assert not (tmp_path / "ran").exists()


def test_the_script_of_fluxgym_on_windows(tmp_path: Path) -> None:
    """Lines go on with ^, and a backslash is part of a path."""
    script = SCRIPT.replace(" \\\n", " ^\n").replace("/app/fluxgym/models/unet/", "C:\\flux\\new\\")
    put(tmp_path, "train.bat", script)
    mine = put(tmp_path, "flux/new/flux1-dev.sft", b"")
    (remark,) = (it for it in found(tmp_path).remarks if "flux1-dev.sft" in it)
    assert f"is a single file, '{mine}'" in remark


def test_an_empty_prompt_file_of_fluxgym_is_none(tmp_path: Path) -> None:
    """It writes one where no samples are wanted."""
    put(tmp_path, "train.sh", SCRIPT.replace("--sample_prompts=", "--other="))
    put(tmp_path, "sample_prompts.txt", "")
    told = found(tmp_path)
    assert "prompts" not in values(told)
    assert told.remarks == (FLUX,)


def test_the_word_of_fluxgym_is_named_where_its_prompts_are_not_used(tmp_path: Path) -> None:
    """Its pictures are called by it."""
    put(tmp_path, "train.sh", SCRIPT.replace("--sample_prompts=", "--other="))
    put(tmp_path, "dataset.toml", "[[datasets]]\n[[datasets.subsets]]\nclass_tokens = 'sks'\n")
    assert found(tmp_path).remarks == (
        "dataset.toml:3: class_tokens: prompts of your own need 'sks'",
        FLUX,
    )
    put(tmp_path, "sample_prompts.txt", "sks on a hill\n")
    assert found(tmp_path).remarks == (FLUX,)


def test_options_of_musubi(tmp_path: Path) -> None:
    """Its base is `dit`, and it samples by defaults of its own."""
    config = 'dit = "/x/qwen.safetensors"\nnetwork_module = "networks.lora_qwen_image"\n'
    put(tmp_path, "m.toml", f'{config}output_name = "a"\nsample_prompts = "p.txt"\n')
    put(tmp_path, "p.txt", "a cat --l 2.5 --w 512\n")
    told = found(tmp_path)
    got = values(told)
    assert (got[SIZE], got[STEPS], got[GUIDANCE]) == ((Size(512, 256),), 20, 2.5)
    assert "such as Qwen/Qwen-Image" in told.remarks[0]


def test_a_sampler_that_clipwatch_has_not_is_told(tmp_path: Path) -> None:
    """The base model's own is used instead, and not the trainer's default."""
    put(tmp_path, "train.toml", CONFIG.replace("k_euler_a", "heun"))
    told = found(tmp_path)
    assert values(told)[SAMPLER] == "pipeline"
    assert any(
        it.startswith("train.toml:6: sample_sampler: clipwatch has no") for it in told.remarks
    )


def test_prompts_that_are_not_here_are_told(tmp_path: Path) -> None:
    """In one line with the key to set; a file of that name far above is not taken for them."""
    put(tmp_path, "prompts.txt", "a cat\n")
    put(tmp_path, "a/b/c/train.toml", CONFIG.replace("/data/prompts.txt", "/data/x/prompts.txt"))
    told = found(tmp_path / "a/b/c")
    assert "prompts" not in values(told)
    line = "train.toml:5: sample_prompts: the training's prompts, '/data/x/prompts.txt'"
    assert any(it.startswith(line) and "set prompts (--prompts)" in it for it in told.remarks)


# ai-toolkit ---------------------------------------------------------------------------------------

JOB = """\
job: extension
config:
  name: cat
  process:
  - type: sd_trainer
    trigger_word: sks
    model:
      name_or_path: black-forest-labs/FLUX.1-dev
      is_flux: true
    sample:
      sampler: flowmatch
      width: 768
      prompts:
      - a [trigger] --seed 7
      - a dog
"""


def test_a_job_of_ai_toolkit(tmp_path: Path) -> None:
    """Its defaults where it says nothing, and its own file as the prompts."""
    file = put(tmp_path, "config.yaml", JOB)
    told = found(tmp_path)
    assert told.trainer == "ai_toolkit"
    assert values(told) == {
        BASE: "black-forest-labs/FLUX.1-dev",
        SIZE: (Size(768, 512),),
        STEPS: 20,
        GUIDANCE: 7.0,
        NEGATIVE: "",
        "validation_seed": 0,
        "prompts": str(file),
    }
    assert told.remarks == ()
    assert dict(told.keys)[BASE].source == "config.yaml:8"


def test_a_job_without_prompts_names_its_trigger_word(tmp_path: Path) -> None:
    """Prompts of one's own need it."""
    put(tmp_path, "config.yaml", JOB.partition("      prompts:")[0])
    told = found(tmp_path)
    assert "prompts" not in values(told)
    assert told.remarks == (
        "config.yaml:6: trigger_word: prompts of your own need 'sks', to which it was trained",
    )


def test_a_job_of_an_older_architecture(tmp_path: Path) -> None:
    """Without a word it is Stable Diffusion 1, whose sampler is ddpm."""
    put(
        tmp_path,
        "config.yaml",
        JOB.replace("      is_flux: true\n", "").replace("flowmatch", "ddpm"),
    )
    assert read(tmp_path)[SAMPLER] == "ddpm"
    put(
        tmp_path,
        "config.yaml",
        JOB.replace("is_flux", "is_xl").replace("      sampler: flowmatch\n", ""),
    )
    assert read(tmp_path)[SAMPLER] == "ddpm"


@pytest.mark.parametrize("name", ["config_lora-20261127-231000.toml", "train.sh", "config.yaml"])
def test_what_cannot_be_read_is_told(name: str, tmp_path: Path) -> None:
    """Each under the name that its trainer gives it."""
    put(tmp_path, name, 'config: [ "')
    assert found(tmp_path).remarks[0].startswith(f"{tmp_path}/{name}")


def test_a_job_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    """With file and line; nothing is made up."""
    put(tmp_path, "config.yaml", "config: [\n")
    told = found(tmp_path)
    assert (told.trainer, told.keys) == ("", ())
    assert told.remarks[0].startswith(f"{tmp_path}/config.yaml:2: is not YAML")


# OneTrainer ---------------------------------------------------------------------------------------

ONE: dict[str, Any] = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "base_model_name": "stabilityai/stable-diffusion-xl-base-1.0",
    "force_v_prediction": True,
    "text_encoder_layer_skip": 1,
    "samples": None,
    "sample_definition_file_name": "training_samples/samples.json",
}
SAMPLES = [
    {"prompt": "a cat", "width": 64, "height": 64, "cfg_scale": 5.0, "noise_scheduler": "EULER"},
    {"prompt": "a dog", "enabled": False, "width": 128, "height": 64},
]


@pytest.mark.parametrize("below", ["", "save"])
def test_a_workspace_of_onetrainer(below: str, tmp_path: Path) -> None:
    """It, or its folder save/, may be named; the samples lie where OneTrainer was run."""
    (tmp_path / "workspace/save").mkdir(parents=True)
    put(tmp_path, "workspace/config/2026-11-28_00-00-56.json", ONE)
    samples = put(tmp_path, "training_samples/samples.json", SAMPLES)
    told = found(tmp_path / "workspace" / below)
    assert told.trainer == "onetrainer"
    assert values(told) == {
        BASE: "stabilityai/stable-diffusion-xl-base-1.0",
        SIZE: (Size(64, 64),),
        STEPS: 20,
        GUIDANCE: 5.0,
        NEGATIVE: "",
        SAMPLER: "euler",
        "validation_seed": 42,
        "prediction_type": "v_prediction",
        "prompts": str(samples),
    }
    assert [it.partition(": ")[2] for it in told.remarks] == [f"text_encoder_layer_skip: {LAST}"]


def test_samples_beside_the_configuration_or_in_it(tmp_path: Path) -> None:
    """A backup has them in a file, a configuration may have them in itself."""
    place = "backup/a-backup-1-0-1/onetrainer_config"
    put(tmp_path, f"{place}/args.json", ONE)
    beside = put(tmp_path, f"{place}/samples.json", SAMPLES)
    assert read(tmp_path)["prompts"] == str(beside)
    config = put(tmp_path / "other", "config/a.json", ONE | {"samples": SAMPLES})
    got = read(tmp_path / "other")
    assert (got["prompts"], got[GUIDANCE]) == (str(config), 5.0)


def test_without_samples_the_size_is_that_of_the_training(tmp_path: Path) -> None:
    """OneTrainer, too, may have been told to make none."""
    put(tmp_path, "config/a.json", ONE | {"sample_definition_file_name": "", "resolution": "1024"})
    told = found(tmp_path)
    assert (values(told)[SIZE], "prompts" in values(told)) == ((Size(1024, 1024),), False)
    put(tmp_path, "config/a.json", ONE | {"sample_definition_file_name": "", "resolution": "1,2"})
    assert read(tmp_path)[SIZE] == (Size(512, 512),)


def test_what_weights_of_onetrainer_say(tmp_path: Path) -> None:
    """Its configuration if that was asked for, else whose they are."""
    weights(tmp_path, "a.safetensors", ot_revision="x")
    assert found(tmp_path).trainer == "onetrainer"
    config = '{"base_model_name": "a/b", "model_type": "FLUX_DEV_1"}'
    weights(tmp_path, "b.safetensors", ot_config=config)
    got = read(tmp_path)
    assert (got[BASE], got[STEPS], got[GUIDANCE]) == ("a/b", 20, 3.5)
    assert SAMPLER not in got


# The others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "family", "guidance"),
    [
        ("diffusers_path", "flux", 3.5),
        ("checkpoint_path", "sdxl", 5.0),
        ("transformer_path", "qwen_image", 4.0),
    ],
)
def test_a_run_of_diffusion_pipe(key: str, family: str, guidance: float, tmp_path: Path) -> None:
    """It tells its base alone: it makes no samples, so the pipeline's own sampling holds."""
    config = f"output_dir = '/x'\n[model]\ntype = '{family}'\n{key} = 'org/base'\n"
    put(tmp_path, "20261127_10-00-00/dp.toml", config)
    put(tmp_path, "20261126_10-00-00/dp.toml", config.replace("org/base", "org/older"))
    told = found(tmp_path)
    expected = {BASE: "org/base", SIZE: (Size(1024, 1024),), GUIDANCE: guidance, NEGATIVE: ""}
    assert (told.trainer, values(told)) == ("diffusion_pipe", expected)
    assert read(tmp_path / "20261127_10-00-00") == expected


def test_everydream_and_its_samples(tmp_path: Path) -> None:
    """The first of its scales; its own file of samples overrides its arguments."""
    main = {"resume_ckpt": "org/base", "resolution": 512, "seed": 555, "clip_skip": 2}
    put(tmp_path, "logs/p/p_main.json", main | {"sample_prompts": "samples.json"})
    own: dict[str, Any] = {"cfgs": [6, 3], "scheduler": "dpm++", "num_inference_steps": 15}
    file = put(tmp_path, "samples.json", own | {"seed": 3, "samples": [{"prompt": "a cat"}]})
    (tmp_path / "logs/p/ckpts").mkdir()
    told = found(tmp_path / "logs/p/ckpts")
    got = values(told)
    assert told.trainer == "everydream2"
    assert (got[BASE], got["prompts"], got["validation_seed"]) == ("org/base", str(file), 3)
    assert (got[GUIDANCE], got[STEPS], got[SAMPLER]) == (6.0, 15, "dpm++")
    assert got[SIZE] == (Size(512, 512),)
    assert (got["clip_skip"], told.remarks) == (2, ())


HPARAMS = """\
pretrained_model_name_or_path: org/base
resolution: 768
seed: 5
validation_prompt: a cat
num_validation_images: 2
validation_scheduler: DDPMScheduler
variant: fp16
revision: null
"""


def test_arguments_of_a_script_of_diffusers(tmp_path: Path) -> None:
    """They stand beside its logs; the newest start counts."""
    put(tmp_path, "logs/dreambooth/1795821682.8/hparams.yml", HPARAMS)
    put(tmp_path, "logs/dreambooth/1795821600.1/hparams.yml", HPARAMS.replace("org/base", "x/y"))
    told = found(tmp_path)
    assert told.trainer == "diffusers_script"
    assert values(told) == {
        BASE: "org/base",
        SIZE: (Size(768, 768),),
        GUIDANCE: 7.5,
        NEGATIVE: "",
        SAMPLER: "ddpm",
        "validation_seed": 5,
        "validation_prompt": "a cat",
        "num_validation_images": 2,
        "variant": "fp16",
    }


LCM = "a latent consistency model is distilled here: pictures are made with LCM's sampler"


def test_a_script_that_distils_a_latent_consistency_model(tmp_path: Path) -> None:
    """It has a teacher in place of a base, and its own sampler, which is told."""
    told = HPARAMS.replace(BASE, "pretrained_teacher_model").replace("DDPMScheduler", "")
    put(tmp_path, "logs/text2image-fine-tune/1.0/hparams.yml", told)
    got = found(tmp_path)
    assert (values(got)[BASE], values(got)[SAMPLER]) == ("org/base", "lcm")
    assert STEPS not in values(got)
    (remark,) = got.remarks
    assert f"pretrained_teacher_model: {LCM}" in remark


def test_a_distilled_lora_is_known_by_its_folder(tmp_path: Path) -> None:
    """Where no arguments lie: the scripts write unet_lora/ beside PEFT's files."""
    weights(tmp_path, "checkpoint-5/unet_lora/pytorch_lora_weights.safetensors")
    put(tmp_path, "checkpoint-5/adapter_config.json", {"base_model_name_or_path": "org/base"})
    got = found(tmp_path)
    assert values(got) == {BASE: "org/base", SAMPLER: "lcm"}
    (remark,) = got.remarks
    assert remark.startswith(f"checkpoint-5/unet_lora: {LCM}")


def test_arguments_of_simpletuner_are_left_to_its_own_rules(tmp_path: Path) -> None:
    """It has accelerate write them, too."""
    put(tmp_path, "logs/x/1.0/hparams.yml", f"model_family: sdxl\n{HPARAMS}")
    assert (found(tmp_path).trainer, found(tmp_path).keys) == ("", ())


def test_a_tuple_among_the_arguments_is_passed_over(tmp_path: Path) -> None:
    """Python's own kinds may stand there, which nothing here makes."""
    odd = "betas: !!python/tuple [0.9, 0.99]\nx: !!python/object/apply:os.getcwd []\n"
    put(tmp_path, "logs/dreambooth/1.0/hparams.yml", odd + HPARAMS)
    told = found(tmp_path)
    assert (values(told)[BASE], told.remarks) == ("org/base", ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("checkpoint-5/adapter_config.json", {"base_model_name_or_path": "org/base"}),
        ("checkpoint-5/unet/config.json", {"_name_or_path": "org/base"}),
        ("model_index.json", {"_name_or_path": "org/base"}),
        ("pipe-000001/model_index.json", {"_name_or_path": "org/base"}),
        ("save/a-save-1-0-1/model_index.json", {"_name_or_path": "org/base"}),
    ],
)
def test_what_configs_were_made_from(name: str, content: dict[str, Any], tmp_path: Path) -> None:
    """Both diffusers and PEFT note where weights came from."""
    put(tmp_path, name, content)
    assert read(tmp_path) == {BASE: "org/base"}


def test_what_an_adapter_was_made_for(tmp_path: Path) -> None:
    """In the metadata of a LoRA of diffusers; none is nothing."""
    told = '{"transformer.base_model_name_or_path": "org/base", "transformer.r": 4}'
    weights(tmp_path, "checkpoint-5/pytorch_lora_weights.safetensors", lora_adapter_metadata=told)
    assert read(tmp_path) == {BASE: "org/base"}
    put(tmp_path, "b/adapter_config.json", {"base_model_name_or_path": None})
    assert found(tmp_path / "b").trainer == ""


# Where a base is looked for -----------------------------------------------------------------------


def test_weights_that_are_named_one_by_one(tmp_path: Path) -> None:
    """What they say counts, and what lies beside them."""
    mine = base(tmp_path, "base/mine")
    one = weights(tmp_path, "loras/a.safetensors", ss_sd_model_name="mine", **SDXL)
    weights(tmp_path, "loras/b.safetensors", ot_revision="x")
    told = found(tmp_path / "nowhere", [one])
    assert (told.trainer, values(told)[BASE]) == ("kohya", mine)


def test_of_weights_of_several_trainers_the_newest_count(tmp_path: Path) -> None:
    """Whatever the older ones say; a file that is not whole says nothing."""
    old = weights(
        tmp_path, "a.safetensors", ot_revision="x", ot_config='{"base_model_name": "a/b"}'
    )
    os.utime(old, (1, 1))
    weights(tmp_path, "b.safetensors", **SDXL)
    assert found(tmp_path).trainer == "kohya"
    put(tmp_path, "c.safetensors", b"\xff\0\0\0\0\0\0\0{")
    assert found(tmp_path).trainer == "kohya"
    (tmp_path / "b.safetensors").unlink()
    assert found(tmp_path).trainer == "onetrainer"


def test_a_path_that_is_here_is_taken_as_it_is(tmp_path: Path) -> None:
    """And a Hub id stays one, unless a folder here is called so."""
    mine = base(tmp_path, "any/where")
    put(tmp_path, "out/config.yaml", JOB.replace("black-forest-labs/FLUX.1-dev", mine))
    assert read(tmp_path / "out")[BASE] == mine
    put(tmp_path, "out/config.yaml", JOB)
    local = base(tmp_path, "black-forest-labs/FLUX.1-dev")
    assert read(tmp_path / "out")[BASE] == local


@pytest.mark.parametrize("name", ["./mine", "models/mine", "~/mine", "../mine", "org/a.ckpt"])
def test_a_path_is_no_hub_id(name: str, tmp_path: Path) -> None:
    """Though it has a slash and two words; it is here, or told."""
    put(tmp_path, "out/config.yaml", JOB.replace("black-forest-labs/FLUX.1-dev", f"'{name}'"))
    told = found(tmp_path / "out")
    assert BASE not in values(told)
    assert f"{name!r}, is not here" in told.remarks[0]


def test_a_place_in_the_cache_of_the_hub_is_an_id(tmp_path: Path) -> None:
    """As diffusers notes it for the parts of a pipeline."""
    cached = "/root/.cache/huggingface/hub/models--org--base-1.0/snapshots/39593d/unet"
    put(tmp_path, "checkpoint-5/unet/config.json", {"_name_or_path": cached})
    assert read(tmp_path) == {BASE: "org/base-1.0"}


@pytest.mark.parametrize(
    ("option", "steps"), [("t5xxl", 20), ("clip_g", 30), ("gemma2", None), ("no_half_vae", 30)]
)
def test_an_architecture_is_known_by_its_options(
    option: str, steps: int | None, tmp_path: Path
) -> None:
    """Where there are no weights yet, and the network module says nothing."""
    config = CONFIG.replace("networks.lora", "lycoris.kohya")
    put(tmp_path, "train.toml", f'{config}{option} = "/x.safetensors"\n')
    assert read(tmp_path).get(STEPS) == steps


def test_a_folder_that_is_no_pipeline_is_told(tmp_path: Path) -> None:
    """The whole of a base is needed."""
    (tmp_path / "mine").mkdir()
    put(
        tmp_path, "out/config.yaml", JOB.replace("black-forest-labs/FLUX.1-dev", f"{tmp_path}/mine")
    )
    told = found(tmp_path / "out")
    assert BASE not in values(told)
    assert "is a folder without model_index.json" in told.remarks[0]


def test_a_value_that_clipwatch_does_not_take_is_told(tmp_path: Path) -> None:
    """And never ends a start."""
    put(tmp_path, "config.yaml", JOB.replace("width: 768", "guidance_scale: -2"))
    told = found(tmp_path)
    assert GUIDANCE not in values(told)
    (remark,) = told.remarks
    assert remark == (
        "config.yaml:12: guidance_scale: must be a number of at least 0, not -2, so clipwatch's "
        "own validation_guidance holds"
    )


def test_files_of_their_own_tell_the_base_alone(tmp_path: Path) -> None:
    """Which of them is the newest changes no picture; a configuration beside them still counts."""
    model = base(tmp_path, "base")
    told = {"ss_network_module": "networks.lora", "ss_sd_model_name": model}
    more = {"ss_resolution": "(640, 640)", "ss_clip_skip": "2", "ss_v2": "False"}
    weights(tmp_path, "loras/anime.safetensors", **told, **more)
    folder = tmp_path / "loras"
    assert "validation_resolution" in values(found(folder))
    apart = found(folder, apart=True)
    assert values(apart) == {"pretrained_model_name_or_path": model}
    assert apart.remarks == ()
    sample = {"prompts": ["a cat"], "width": 64, "height": 64, "sample_steps": 4}
    job = {"type": "sd_trainer", "model": {"name_or_path": model}, "sample": sample}
    config = {"job": "extension", "config": {"name": "x", "process": [job]}, "meta": {}}
    put(folder, "config.yaml", config)
    assert values(found(folder, apart=True))["validation_num_inference_steps"] == 4
