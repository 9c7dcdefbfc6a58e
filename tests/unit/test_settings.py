"""A trainer's configuration becomes the settings of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipwatch import prompts
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import KEYS, Settings, load

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}
Load = Callable[..., Settings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the trainer's working directory, with `config/` in it."""
    (tmp_path / "config").mkdir()
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Load:
    """Return a function that writes config.json from LEAST and the given keys, and loads it."""

    def load_config(
        config: dict[str, Any] | str | None = None,
        *,
        own: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        **flags: Any,
    ) -> Settings:
        file = folder / "config" / "config.json"
        text = config if isinstance(config, str) else json.dumps(LEAST | (config or {}), indent=0)
        file.write_text(text)
        if own is not None:
            file.with_name("clipwatch.json").write_text(json.dumps(own, indent=0))
        state = {"CLIPWATCH_STATE_DIR": str(folder / "state")}
        return load(file, flags=flags, environ=state | (environ or {}), cwd=folder)

    return load_config


def origin(settings: Settings, key: str) -> tuple[Any, str]:
    """Return value and source as --print-settings shows them."""
    return next((o.value, o.source) for o in settings.origins if o.key == key)


def test_little_is_enough(read: Load, folder: Path) -> None:
    """The trainer's defaults fill everything that its config leaves out."""
    settings = read()
    protocol = settings.protocol
    assert settings.config == folder / "config" / "config.json"
    assert settings.paths.output_dir == folder / "out"
    assert settings.paths.logging_dir == folder / "out" / "logs"
    assert settings.paths.working_dir == folder
    assert settings.paths.state_dir == folder / "state"
    assert (settings.publishing.project, settings.publishing.run_name) == (
        "simpletuner",
        "simpletuner-testing",
    )
    assert settings.publishing.trackers == ()
    assert settings.options == {}
    assert (
        settings.watching.watch,
        settings.watching.rescan_seconds,
        settings.watching.settle_seconds,
    ) == ("auto", 5, 10)
    assert (
        settings.compute.batch_size,
        settings.evaluating.keep_images,
        settings.evaluating.max_attempts,
    ) == (None, 20, 3)
    assert protocol.prompts == prompts.builtin()
    assert (protocol.width, protocol.height, protocol.images_per_prompt) == (256, 256, 1)
    assert (protocol.inference_steps, protocol.guidance, protocol.seed) == (30, 7.5, 7)
    assert protocol.negative_prompt == "blurry, cropped, ugly"
    assert protocol.decides.model == "openai/clip-vit-large-patch14-336"
    assert protocol.base_model == "stabilityai/stable-diffusion-xl-base-1.0"
    assert (protocol.scheduler, protocol.weights) == ("ddim", "live")
    assert origin(settings, "pretrained_model_name_or_path")[1] == "default for sdxl"
    assert origin(settings, "validation_noise_scheduler")[1] == "default for sdxl"
    assert origin(settings, "validation_seed") == (7, "config.json:5 (seed)")
    assert origin(settings, "validation_prompt_library")[0] is True


LAYERS = ["default", "config.json", "clipwatch.json", "object", "CLIPWATCH_BATCH_SIZE", "flag"]


@pytest.mark.parametrize("highest", range(len(LAYERS)))
def test_the_most_specific_place_counts(read: Load, highest: int) -> None:
    """Flags go before environment, object, clipwatch.json, the trainer's keys and defaults."""
    number = {name: index + 40 for index, name in enumerate(LAYERS[: highest + 1])}
    config: dict[str, Any] = {}
    own: dict[str, Any] = {}
    environ: dict[str, str] = {}
    flags: dict[str, Any] = {}
    key = "validation_num_inference_steps"
    if "config.json" in number:
        config[f"--{key}"] = str(number["config.json"])
    if "clipwatch.json" in number:
        own[key] = number["clipwatch.json"]
    if "object" in number:
        config["clipwatch"] = {key: number["object"]}
    if "CLIPWATCH_BATCH_SIZE" in number:
        environ[f"CLIPWATCH_{key.upper()}"] = str(number["CLIPWATCH_BATCH_SIZE"])
    if "flag" in number:
        flags[key] = number["flag"]
    settings = read(config, own=own, environ=environ, **flags)
    expected = [
        (30, "default"),
        (41, "config.json:6"),
        (42, "clipwatch.json:2"),
        (43, "config.json:8"),
        (44, "CLIPWATCH_VALIDATION_NUM_INFERENCE_STEPS"),
        (45, "--steps"),
    ][highest]
    assert origin(settings, key) == expected
    assert settings.protocol.inference_steps == expected[0]


def test_the_trainers_rules_for_values(read: Load) -> None:
    """Dashes, strings, nulls, lists, "false", placeholders, objects and unknown keys."""
    settings = read(
        """{  // as written by hand
        "--output_dir": "{env:RUNS}/out{env:UNSET}", "evaluation_type": "none",
        "--evaluation_type": "clip", # the later one counts
        "model_family": "sdxl", "num_validation_images": "3", "validation_guidance": "0.0",
        "validation_negative_prompt": "", "validation_prompt": "false",
        "tracker_run_name": ["first", "last"], "tracker_project_name": " ",
        "validation_seed": null, "seed": "0", "max_train_steps": 10, "webhook_config": {"a": 1},
        "use_ema": "true", "ema_validation": "ema_only", "optimizer_config": {"a": 1},
        "report_to": ["tensorboard", "wandb", "tensorboard"], "revision": "", "variant": "None",
        }""",
        environ={"RUNS": "runs"},
    )
    protocol = settings.protocol
    assert settings.paths.output_dir.parts[-2:] == ("runs", "out")
    assert (protocol.images_per_prompt, protocol.guidance, protocol.seed) == (3, 0.0, 0)
    assert protocol.negative_prompt == ""
    assert protocol.prompts == prompts.builtin()
    assert (settings.publishing.run_name, settings.publishing.project) == (
        "last",
        "simpletuner-training",
    )
    assert (protocol.weights, protocol.width) == ("ema", 256)
    assert settings.publishing.trackers == ("tensorboard", "wandb")
    assert (protocol.base_revision, protocol.base_variant) == ("", "")
    assert "random for the trainer" in origin(settings, "validation_seed")[1]


def test_a_list_of_sizes_gives_its_first(read: Load) -> None:
    """Of several resolutions the first counts, and the origin says so."""
    settings = read({"validation_resolution": "1024x768,512"})
    assert (settings.protocol.width, settings.protocol.height) == (1024, 768)
    assert origin(settings, "validation_resolution") == ("1024x768", "config.json:6 (first of 2)")


def test_options_of_trackers_are_merged(read: Load) -> None:
    """Each option comes from its own most specific place; secrets are used but never shown."""
    settings = read(
        {"clipwatch": {"wandb": {"entity": "team", "api_key": "{env:KEY}", "mode": None}}},
        own={"wandb": {"entity": "me", "mode": "offline"}, "tensorboard": {}},
        environ={"KEY": "s3cret", "CLIPWATCH_WANDB": '{"base_url": "http://w", "deep": true}'},
    )
    assert settings.options == {
        "wandb": {
            "api_key": "s3cret",
            "base_url": "http://w",
            "deep": "true",
            "entity": "team",
            "mode": "offline",
        }
    }
    assert origin(settings, "wandb.entity") == ("team", "config.json:8")
    assert origin(settings, "wandb.api_key") == ("(hidden)", "config.json:9")
    assert "s3cret" not in repr(settings.as_text())


def test_origins_and_text_go_together(read: Load) -> None:
    """Origins are sorted by key; the text for the log has the same keys and plain values."""
    settings = read({"report_to": "tensorboard,wandb", "use_ema": True, "validation_seed": 0})
    keys = [setting.key for setting in settings.origins]
    assert keys == sorted(keys)
    assert set(KEYS) - set(keys) == {
        *("max_prompts", "prompts", "user_prompt_library", "validation_prompt"),
        *("references", "training_images", "holdout", "train_sample"),
        *("exit_when_done", "gpu_memory_gib", "health_address", "keep_images_gb", "slots"),
        *("advice.webhook", "advice.worth", "precision", "simpletuner_path"),
        # none of it is named, or nothing of it acts on SDXL
        *("pretrained_unet_model_name_or_path", "pretrained_unet_subfolder"),
        *("pretrained_transformer_model_name_or_path", "pretrained_transformer_subfolder"),
        *("pretrained_gemma_model_name_or_path", "qwen_text_encoder_model_name_or_path"),
        *("lora_alpha", "flow_schedule_shift", "tokenizer_max_length"),
        *("sana_complex_human_instruction", "deepfloyd_validation_stage1_guidance"),
        "deepfloyd_validation_stage1_num_inference_steps",
    }
    written = settings.as_text()
    assert list(written) == keys
    assert written["report_to"] == "tensorboard,wandb"
    assert written["use_ema"] == "true"
    assert written["validation_seed"] == "0"
    assert written["validation_resolution"] == "256x256"


def test_equal_settings_have_equal_text_wherever_they_stand(read: Load) -> None:
    """Moving a key to another line or file is no change of settings."""
    first = read({"clipwatch": {"batch_size": 8}})
    second = read(own={"batch_size": "8"})
    assert first.as_text() == second.as_text()
    assert first.protocol.digest == second.protocol.digest
    assert origin(first, "batch_size")[1] != origin(second, "batch_size")[1]


def test_the_name_of_the_config_is_no_setting(read: Load) -> None:
    """CLIPWATCH_CONFIG belongs to the command line, and empty variables say nothing."""
    settings = read(environ={"CLIPWATCH_CONFIG": "x", "CLIPWATCH_BATCH_SIZE": " "})
    assert settings.compute.batch_size is None


@pytest.mark.parametrize("name", ["CLIPWATCH", "CLIPWATCH_METRICS", "CLIPWATCH_BATCH_SIZE"])
def test_a_service_of_kubernetes_is_no_setting(read: Load, name: str) -> None:
    """A Service called clipwatch, or so with more behind it, is told to every pod."""
    service = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "9464",
        f"{name}_SERVICE_PORT_HTTP": "9464",
        f"{name}_PORT": "tcp://10.0.0.1:9464",
        f"{name}_PORT_9464_TCP": "tcp://10.0.0.1:9464",
        f"{name}_PORT_9464_TCP_PROTO": "tcp",
        f"{name}_PORT_9464_TCP_PORT": "9464",
        f"{name}_PORT_9464_TCP_ADDR": "fd00::1",
    }
    assert read(environ=service).compute.batch_size is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORTS", "1"), ("HEALTH_PORT", "9464"), ("SERVICE_HOST", "a.example"), ("PORT", "9464")],
)
def test_what_looks_like_a_service_is_a_slip(read: Load, name: str, value: str) -> None:
    """What Kubernetes does not write so was written by somebody who means a setting."""
    with pytest.raises(SettingsError, match=f"CLIPWATCH_{name}: is not a setting"):
        read(environ={f"CLIPWATCH_{name}": value})


def test_sage_attention_and_native(read: Load) -> None:
    """With attention of its own, clipwatch scores beside a training with SageAttention."""
    config = {"attention_mechanism": "sageattention-int8-fp16-cuda"}
    with pytest.raises(SettingsError, match="exclude each other") as raised:
        read(config)
    assert "evaluation_type" in str(raised.value)
    with pytest.raises(SettingsError, match="exclude each other"):
        read(config | {"clipwatch": {"attention": "flash"}})
    assert read(config | {"clipwatch": {"attention": "native"}}).compute.attention == "native"


def test_all_trackers_and_none(read: Load) -> None:
    """`all` is each adapter that must be named, `none` is none; clipwatch may differ."""
    named = set(read({"report_to": "all"}).publishing.trackers)
    assert named >= {"tensorboard", "wandb"}
    assert named.isdisjoint({"csv", "jsonl"})
    assert read({"report_to": "csv, wandb"}).publishing.trackers == ("wandb",)
    assert read({"report_to": "none"}).publishing.trackers == ()
    override = {"report_to": "swanlab", "clipwatch": {"report_to": "wandb"}}
    assert read(override).publishing.trackers == ("wandb",)


def test_paths_in_files_are_the_trainers(read: Load, folder: Path) -> None:
    """First the working directory, then the config's folder; neither exists: the former."""
    (folder / "config" / "out").mkdir()
    assert read().paths.output_dir == folder / "config" / "out"
    (folder / "out").mkdir()
    assert read().paths.output_dir == folder / "out"
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    settings = read({"clipwatch": {"working_dir": "../elsewhere"}, "output_dir": "new"})
    assert (settings.paths.working_dir, settings.paths.output_dir) == (elsewhere, elsewhere / "new")
    assert read(working_dir="elsewhere", output_dir="new").paths.output_dir == folder / "new"
    absolute = read({"logging_dir": str(elsewhere)})
    assert absolute.paths.logging_dir == elsewhere


def test_symlinks_are_kept(read: Load, folder: Path) -> None:
    """The output directory stays as it is written, and ".." never leads past a symlink."""
    (folder / "real" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("real/deep")
    assert read({"output_dir": "link"}).paths.output_dir == folder / "link"
    assert read({"output_dir": "config/../link"}).paths.output_dir == folder / "link"
    past = read({"output_dir": "link/../runs"}).paths.output_dir
    assert os.path.realpath(past) == str(folder / "real" / "runs")


def test_an_output_directory_is_a_folder(read: Load, folder: Path) -> None:
    """A file in its place is an error."""
    (folder / "out").write_text("")
    with pytest.raises(SettingsError, match=r"config.json:2: output_dir: .*out' is not a folder"):
        read()


def test_local_models_are_found(read: Load, folder: Path) -> None:
    """A folder that exists is a path, whatever it looks like; a single file is refused."""
    (folder / "models" / "base").mkdir(parents=True)
    (folder / "config" / "clip").mkdir()
    protocol = read(
        {
            "pretrained_model_name_or_path": "models/base",
            "pretrained_evaluation_model_name_or_path": "clip",
            "model_family": None,
        }
    ).protocol
    assert protocol.base_model == str(folder / "models" / "base")
    assert protocol.decides.model == str(folder / "config" / "clip")
    assert protocol.scheduler == ""
    (folder / "model.safetensors").write_text("")
    with pytest.raises(SettingsError, match="is a single file"):
        read({"pretrained_model_name_or_path": "model.safetensors"})


def test_a_hub_id_that_may_be_a_path_is_told(read: Load, folder: Path) -> None:
    """Its owner is a folder here without that name in it, or it has no owner; not other ids."""
    (folder / "bases" / "good").mkdir(parents=True)
    base = {"pretrained_model_name_or_path": "bases/god"}
    scorer = {"pretrained_evaluation_model_name_or_path": "bases/clip"}
    wrong, other = (line for line in read({**base, **scorer}).remarks if "Hub id" in line)
    assert "pretrained_model_name_or_path: there is no folder" in wrong
    assert f"{str(folder / 'bases' / 'god')!r}: 'bases/god' is taken for a Hub id" in wrong
    assert "pretrained_evaluation_model_name_or_path: there is no folder" in other
    (bare,) = (
        line for line in read({"pretrained_model_name_or_path": "bass"}).remarks if "Hub id" in line
    )
    looked = " or ".join(repr(str(it / "bass")) for it in (folder, folder / "config"))
    assert f"there is no folder {looked}: 'bass' is taken for a Hub id" in bare
    for name in ("bases/good", "me/god", "bases"):
        remarks = read({"pretrained_model_name_or_path": name}).remarks
        assert not any("Hub id" in line for line in remarks)


def test_prompts_add_up(read: Load, folder: Path) -> None:
    """Built-in, then the user's, then validation_prompt; the user's goes before a built-in one."""
    builtin = prompts.builtin()
    library = folder / "mine.json"
    library.write_text(json.dumps({"unconditional": "", builtin[1].id: "my own", "new": "a cat"}))
    own = {"user_prompt_library": "mine.json", "validation_prompt": "a dog"}
    texts = {prompt.id: prompt.text for prompt in read(own).protocol.prompts}
    assert texts == {builtin[1].id: "my own", "new": "a cat", "validation": "a dog"}
    both = read(own | {"validation_prompt_library": "image"}).protocol.prompts
    assert [prompt.id for prompt in both] == [
        *(prompt.id for prompt in builtin if prompt.id != builtin[1].id),
        *texts,
    ]
    assert {prompt.id: prompt.text for prompt in both}[builtin[1].id] == "my own"


def test_two_sources_with_one_id_are_refused(read: Load, folder: Path) -> None:
    """The error names both: the key with its line, and the library."""
    (folder / "mine.json").write_text('{"validation": "a cat"}')
    keys = {"user_prompt_library": "mine.json", "validation_prompt": "a dog"}
    with pytest.raises(SettingsError, match=r"config.json:7: validation_prompt: .*mine.json"):
        read(keys)


def test_a_prompt_file_replaces_all_others(read: Load, folder: Path) -> None:
    """`prompts` is the last word, found from where it was said."""
    (folder / "two.txt").write_text("a cat\na dog\n")
    keys = {"validation_prompt_library": True, "validation_prompt": "a dog"}
    settings = read(keys, environ={"CLIPWATCH_PROMPTS": "two.txt"})
    assert [prompt.text for prompt in settings.protocol.prompts] == ["a cat", "a dog"]
    assert origin(settings, "validation_prompt_library") == (
        False,
        "config.json:6 (replaced by prompts)",
    )


def test_the_config_may_be_a_folder_or_our_own_file(read: Load, folder: Path) -> None:
    """A folder stands for its config.json; clipwatch.json alone serves a script of one's own."""
    whole = read()
    environ = {"CLIPWATCH_STATE_DIR": str(folder / "state")}
    assert load(folder / "config", environ=environ, cwd=folder) == whole
    assert load(Path("config"), environ=environ, cwd=folder) == whole
    (folder / "clipwatch.json").write_text(json.dumps({**LEAST, "batch_size": 2}))
    assert load(folder, environ=environ, cwd=folder).compute.batch_size == 2
    (folder / "elsewhere").mkdir()
    with pytest.raises(SettingsError, match="elsewhere: holds no config"):
        load(folder / "elsewhere", environ=environ, cwd=folder)


def test_nothing_heavy_is_imported() -> None:
    """Reading settings loads none of torch, transformers and diffusers."""
    heavy = "{'torch', 'transformers', 'diffusers', 'numpy'}"
    code = f"import sys, clipwatch.settings; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
