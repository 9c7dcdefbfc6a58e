"""What the trainer's file asks for and clipwatch does not do is told, or ends the start."""

from __future__ import annotations

import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import load
from clipwatch.settings.settings import KEYS, TRAINER_KEYS
from clipwatch.settings.simpletuner import answers, reading, tables
from clipwatch.settings.simpletuner.answers import REFUSED, TOLD
from simpletuner_kit import OWN, install, read

BASE = {"pretrained_model_name_or_path": "me/model"}
FAMILY = {"twinflow_enabled": "flux", "custom_text_encoder_intermediary_layers": "flux2"}


def other(name: str) -> Any:
    """Return a value that is not an option's default."""
    option = tables.every_option()[name]
    choices = [it for it in option.get("choices", ()) if it != option.get("default")]
    if option["type"] == "flag":
        return not option.get("default")
    return choices[0] if choices else {"text": "something"}.get(option["type"], 3)


TOLD_KEYS = sorted(name for name, it in answers.answers().items() if it.kind == TOLD)
REFUSED_KEYS = sorted(name for name, it in answers.answers().items() if it.kind == REFUSED)


@pytest.mark.thorough(but=20)
@pytest.mark.parametrize("name", TOLD_KEYS)
def test_what_is_not_followed_is_told_when_it_is_set(tmp_path: Path, name: str) -> None:
    """One line with file, line, key and what it means; none for the default or a null."""
    answer = answers.answers()[name]
    family = answer.families[0] if answer.families else FAMILY.get(name, "sdxl")
    value = answer.values[0] if answer.values else other(name)
    settings = read(tmp_path, {"model_family": family, name: value})
    assert f"config.json:5: {name}: {answer.text}" in settings.remarks
    option = tables.every_option()[name]
    for harmless in (None, option.get("default"), str(option.get("default") or "")):
        settings = read(tmp_path, {"model_family": family, name: harmless})
        assert not any(name in remark for remark in settings.remarks), harmless


@pytest.mark.parametrize("name", REFUSED_KEYS)
def test_what_makes_another_model_is_refused(tmp_path: Path, name: str) -> None:
    """The start ends with file, line, key and reason, before any path is looked at."""
    answer = answers.answers()[name]
    family = answer.families[0] if answer.families else "sdxl"
    value = answer.values[0] if answer.values else other(name)
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, {"model_family": family, name: value, "output_dir": "/dev/null/no"})
    assert f"config.json:5: {name}: {answer.text}" in str(refused.value)
    assert refused.value.exit_code == 2
    read(tmp_path, {"model_family": family, name: None})


def test_a_narrow_answer_concerns_its_families_and_values_alone(tmp_path: Path) -> None:
    """Frames of video are cosmos3's matter, one frame is a picture, and most attention is none."""
    read(tmp_path, {"validation_num_video_frames": 49})
    read(tmp_path, {"model_family": "cosmos3", "validation_num_video_frames": 1})
    for attention in ("diffusers", "flash-attn-3-hub", "xformers", "kohaku-fa-auto"):
        settings = read(tmp_path, {"attention_mechanism": attention})
        assert settings.remarks == ()


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"model_type": "full", "base_model_precision": "int8-quanto"},
            "base_model_precision: is for a LoRA: with model_type full the base stays in full",
        ),
        (
            {"model_family": "sd3", "prediction_type": "epsilon"},
            "prediction_type: sd3 predicts a flow, and keeps to it: it is not followed",
        ),
        (
            {"model_family": "sd3", "rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr: is not followed: a flow's sampler has no such schedule",
        ),
        (
            {"validation_noise_scheduler": "pipeline", "rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr: is not followed: the pipeline's own sampler is taken as it is",
        ),
        (
            {
                "model_family": "sd3",
                "validation_guidance_skip_layers": "[7]",
                "validation_guidance_skip_layers_stop": 0.005,
            },
            "_stop: 0.005 is not after validation_guidance_skip_layers_start, 0.01: no step lies",
        ),
    ],
)
def test_what_the_family_or_the_training_leaves_out_is_told(
    tmp_path: Path, keys: dict[str, Any], text: str
) -> None:
    """One line with the key; none where it is not set."""
    (line,) = read(tmp_path, keys).remarks
    assert text in line
    assert line.startswith("config.json:")
    family = {"model_family": keys.get("model_family", "sdxl")}
    assert read(tmp_path, {**dict.fromkeys(keys), **family}).remarks == ()


def test_keys_of_one_sentence_stand_in_one_line(tmp_path: Path) -> None:
    """What is said of several keys is said once."""
    keys = {"sdnq_group_size": 64, "sdnq_use_hadamard": True}
    (line,) = read(tmp_path, keys).remarks
    assert line.startswith("config.json:5: sdnq_group_size, sdnq_use_hadamard: a detail of SDNQ")


def test_families_are_told(tmp_path: Path) -> None:
    """A sampler that diffusers lacks, and what a family's validation does by itself."""
    (line,) = read(tmp_path, {"model_family": "hidream"}).remarks
    assert line == (
        "config.json:3: SimpleTuner's sampler for hidream, flow_unipc, is not in diffusers: "
        "clipwatch uses the pipeline's own"
    )
    flow = {"model_family": "hidream", "validation_noise_scheduler": "unipc"}
    assert read(tmp_path, flow).remarks == ()
    (line,) = read(tmp_path, {"model_family": "flux", "model_flavour": "libreflux"}).remarks
    assert line.startswith("config.json:3: flux: SimpleTuner masks the padding")


def test_keys_that_nobody_knows_are_pointed_out(tmp_path: Path) -> None:
    """A slip is guessed at; the rest is named, of a configuration of SimpleTuner's alone."""
    keys = {"validation_guidnce": 3, "my_notes": "x", "todo": 1, "empty": None}
    slip, rest = read(tmp_path, keys).remarks
    assert slip == (
        "config.json:5: validation_guidnce is not read: did you mean 'validation_guidance'?"
    )
    assert rest == "config.json:6: no option of SimpleTuner, and not read: my_notes, todo"
    other_trainers = {"model_family": None, "pretrained_model_name_or_path": "me/model"}
    assert read(tmp_path, {**other_trainers, "my_notes": "x"}).remarks == ()


def test_of_a_list_the_last_counts_and_is_told(tmp_path: Path) -> None:
    """As the trainer passes it on, where every item is the option given once more."""
    settings = read(tmp_path, {"validation_prompt": ["a", "b", " "]})
    assert [prompt.text for prompt in settings.protocol.prompts] == ["b"]
    last = "of a list only the last counts, as for SimpleTuner"
    assert settings.remarks == (f"config.json:5: validation_prompt: {last}",)
    settings = read(tmp_path, {"validation_resolution": [512, "1024x768"]})
    assert settings.remarks == (f"config.json:5: validation_resolution: {last}",)
    assert settings.protocol.width == 1024
    settings = read(tmp_path, {"validation_resolution": "512,1024x768"})
    assert "scores the first of these sizes, 512x512" in settings.remarks[0]
    assert settings.protocol.width == 512
    settings = read(tmp_path, {"validation_resolution": []})
    assert "an empty list sets nothing: the default holds" in settings.remarks[0]
    assert settings.protocol.width == 256
    assert (
        read(tmp_path, {"validation_resolution": [512], "report_to": ["none", "all"]}).remarks == ()
    )


@pytest.mark.parametrize("name", ["validation_prompt", "validation_guidance", "seed"])
def test_an_object_instead_of_a_value_is_refused(tmp_path: Path, name: str) -> None:
    """The trainer passes over it; a file of another trainer may have objects of that name."""
    with pytest.raises(SettingsError, match=f"config.json:.: {name}: must be a single") as told:
        read(tmp_path, {name: {"a": 1}})
    assert told.value.exit_code == 2
    assert read(tmp_path, {"model_family": None, name: {"a": 1}, **BASE}).remarks == ()


def test_a_key_of_clipwatchs_own_among_the_trainers_is_pointed_out(tmp_path: Path) -> None:
    """Each with its line, read neither there nor as another; none for those that both have."""
    own = {name: "?" for name in KEYS if "." not in name and name not in TRAINER_KEYS}
    del own["attention"], own["report"]  # which begin other options, as below
    objects = {"advice": {"low": 1}, "scorers": {"a": "b"}, "wandb": {"entity": "me"}}
    settings = read(tmp_path, {**own, **objects})
    where = 'not read here: move it into the object "clipwatch"'
    assert settings.remarks == tuple(
        f"config.json:{line}: {name}: a key of clipwatch's own, and {where}"
        for line, name in [
            *enumerate(own, 5),
            *zip(range(5 + len(own), 99, 3), objects, strict=False),
        ]
    )
    (line,) = read(tmp_path, {"attention": "native"}).remarks
    assert line.startswith(
        "config.json:5: attention: a key of clipwatch's own, and read as attention_mechanism"
    )
    with pytest.raises(SettingsError, match=r"config.json:5: report: .*'true'.*choose among"):
        read(tmp_path, {"report": "true"})  # the trainer's report_to, cut short
    (line,) = read(tmp_path, {"model_family": None, "batch_size": "many", **BASE}).remarks
    assert line.startswith("config.json:5: batch_size: a key of clipwatch's own")


def test_an_option_answers_to_its_other_names(tmp_path: Path) -> None:
    """An alias, and the beginning of one name and no other's, as on the trainer's command line."""
    settings = read(tmp_path, {"--validation_num_inf": 11, "fused_qkv_projections": True})
    assert settings.protocol.inference_steps == 11
    assert settings.remarks == ()
    (line,) = read(tmp_path, {"validation_g": 3}).remarks
    assert "validation_g" in line


def test_trackers_of_the_trainer_alone_are_passed_over(tmp_path: Path) -> None:
    """Whatever report_to of any version may name is no reason to stop, and a slip is."""
    known = {
        choice
        for version in tables.versions()
        for choice in tables.table(version).options["report_to"]["choices"]
    }
    for name in sorted(known):
        settings = read(tmp_path, {"report_to": name})
        passed = [it for it in settings.remarks if "no adapter" in it]
        assert bool(passed) == (
            name not in ("all", "none", "comet_ml", "swanlab", "tensorboard", "wandb")
        ), name
    (line,) = read(tmp_path, {"report_to": "simpletuner,tensorboard"}).remarks
    assert line == (
        "config.json:5: report_to: clipwatch has no adapter for 'simpletuner', and publishes to "
        "the others"
    )
    with pytest.raises(SettingsError, match="unknown tracker 'tensorbord'"):
        read(tmp_path, {"report_to": "tensorbord"})


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("lora_type", "lycorris", "'lycoris'"),
        ("model_type", "lorra", "'lora'"),
        ("lora_format", "comfy", "'comfyui'"),
        ("lora_init_type", "pisssa", "'pissa'"),
        ("model_type", 7, ""),
    ],
)
def test_what_the_trainer_does_not_take_is_refused(
    tmp_path: Path, name: str, value: Any, near: str
) -> None:
    """With its choices, of a configuration of SimpleTuner and in our object; not of others."""
    line = f"config.json:5: {name}: must be .*, not '?{value}"
    with pytest.raises(SettingsError, match=line) as it:
        read(tmp_path, {name: value})
    assert it.value.exit_code == 2
    assert f": did you mean {near}?" in str(it.value) if near else "did you" not in str(it.value)
    for choice in (None, *tables.every_option()[name]["choices"]):
        if choice not in ("lycoris", "loftq", "olora", "pissa"):
            assert read(tmp_path, {name: choice}).remarks == ()
    other = {"model_family": None, **BASE}
    assert read(tmp_path, {name: value, **other}).remarks == ()
    if name in TRAINER_KEYS:
        with pytest.raises(SettingsError, match=f"{name}: must be"):
            read(tmp_path, other, **{name: value})


def test_lycoris_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the start ends with the extra to install; with it there is nothing to say."""
    keys = {"model_type": "lora", "lora_type": "lycoris"}
    monkeypatch.setattr(reading, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r":6: lora_type: .*'clipwatch\[lycoris\]'") as told:
        read(tmp_path, keys)
    assert told.value.exit_code == 2
    monkeypatch.setattr(reading, "find_spec", lambda name: ModuleSpec(name, None))
    assert read(tmp_path, keys).remarks == ()


def test_what_simpletuner_does_by_our_keys_is_told(tmp_path: Path) -> None:
    """It scores by itself, and some versions do not start; not for keys of clipwatch's object."""
    site = install(tmp_path / "site", "4.10.1").parent
    keys = {"evaluation_type": "clip", "report_to": "tensorboard"}
    assert read(tmp_path, {}, **keys, simpletuner_path=str(site)).remarks == ()
    config = {"output_dir": "out", "model_family": "sdxl", **keys, "clipwatch": keys}
    (tmp_path / "config.json").write_text(json.dumps(config, indent=0))

    def told(**environ: str) -> list[str]:
        return [*load(tmp_path, environ=environ, cwd=tmp_path).remarks]

    assert told() == []  # of a SimpleTuner elsewhere nothing is known
    scores, stops = told(CLIPWATCH_SIMPLETUNER_PATH=str(site))
    assert scores.startswith("config.json:4: evaluation_type: SimpleTuner takes it too")
    assert scores.endswith('move it into the object "clipwatch"')
    assert stops.startswith("config.json:5: report_to: SimpleTuner 4.10.1 does not start")
    (site / "simpletuner" / "__init__.py").write_text('__version__ = "4.8.0"')
    assert told(CLIPWATCH_SIMPLETUNER_PATH=str(site)) == [scores]


def test_a_conditioning_dataset_is_told_of_z_image(tmp_path: Path) -> None:
    """Its validation starts from pictures as soon as a dataset has some."""
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"id": "a", "conditioning": {"type": "canny"}}]))
    keys = {"data_backend_config": "data.json"}
    (line,) = read(tmp_path, {"model_family": "z_image", **keys}).remarks
    assert line.startswith("config.json:5: data_backend_config: SimpleTuner's validation of z_im")
    assert read(tmp_path, keys).remarks == ()
    data.write_text("[]")
    assert read(tmp_path, {"model_family": "z_image", **keys}).remarks == ()
    data.write_text("[")
    (broken,) = read(tmp_path, {"model_family": "z_image", **keys}).remarks
    data.unlink()
    (line,) = read(tmp_path, {"model_family": "z_image", **keys}).remarks
    assert line == broken
    assert line.startswith("config.json:5: data_backend_config: cannot be read")
    assert read(tmp_path, {"model_family": "flux", **keys}).remarks == ()


def test_the_builtin_prompts_stand_in_for_the_trainers(tmp_path: Path) -> None:
    """Where the trainer's file asks for its library; not where clipwatch is asked for its own."""
    (line,) = read(tmp_path, {"validation_prompt_library": True}).remarks
    assert "144 prompts stand in for SimpleTuner's library" in line
    assert read(tmp_path, {}, validation_prompt_library=True).remarks == ()
    assert read(tmp_path, {}).remarks == ()


def test_a_secret_is_told_nowhere(tmp_path: Path) -> None:
    """A variable named like a secret is refused where remarks and the log would hold its value."""
    config = {"output_dir": "o", "model_family": "sdxl", "model_type": "lora", "clipwatch": OWN}
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "base_model_precision": "{env:MY_TOKEN}"})
    )
    with pytest.raises(SettingsError, match="base_model_precision: is shown and logged") as found:
        load(tmp_path, environ={"MY_TOKEN": "s3cr3t"}, cwd=tmp_path)
    assert "s3cr3t" not in str(found.value)
