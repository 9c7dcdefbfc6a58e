"""Configurations as people have them: JSON, TOML, variables, wrapped, or another program's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings, load
from clipwatch.settings.simpletuner import tables
from simpletuner_kit import install

CLIP = {"CLIPWATCH_EVALUATION_TYPE": "clip", "CLIPWATCH_DEVICE": "cuda"}


def read(file: Path, **environ: str) -> Settings:
    """Load a file from its own folder."""
    folder = file if file.is_dir() else file.parent
    return load(file, environ={**CLIP, **environ}, cwd=folder)


def refusal(file: Path) -> str:
    """Return why a file is refused, "" where it is read."""
    try:
        read(file)
    except SettingsError as error:
        return str(error)
    return ""


def source(settings: Settings, key: str) -> str:
    """Return where a value came from."""
    return next(it.source for it in settings.origins if it.key == key)


def test_settings_inside_config_are_read(tmp_path: Path) -> None:
    """As the trainer's web interface wrote them, with their lines and our object."""
    file = tmp_path / "config.json"
    inner = {"--model_family": "flux", "--output_dir": "o", "clipwatch": {"seeds": "trainer"}}
    file.write_text(json.dumps({"_metadata": {"name": "x"}, "config": inner}, indent=0))
    settings = read(file)
    assert settings.paths.output_dir == tmp_path / "o"
    assert settings.protocol.seeds == "trainer"
    assert source(settings, "model_family") == "config.json:6"
    assert source(settings, "seeds") == "config.json:9"
    assert settings.remarks == ()
    outer = {"_metadata": {}, "config": {"model_family": "flux"}, "clipwatch": {"batch_size": 3}}
    file.write_text(json.dumps(outer))
    assert read(file).compute.batch_size == 3


def test_settings_beside_those_inside_config_are_told(tmp_path: Path) -> None:
    """Which are meant nobody knows; in a whole configuration the object is one that is not read."""
    file = tmp_path / "config.json"
    inner = {"model_family": "flux", "output_dir": "o"}
    file.write_text(
        json.dumps({"_metadata": 1, "config": inner, "validation_guidance": 9}, indent=0)
    )
    assert refusal(file) == (
        f"{file}:3: config: settings stand in it, and beside it validation_guidance: "
        "move them into it"
    )
    whole = {"--model_family": "sdxl", "output_dir": "p", "config": inner}
    file.write_text(json.dumps(whole, indent=0))
    settings = read(file)
    assert settings.paths.output_dir == tmp_path / "p"
    assert settings.remarks == (
        "config.json:4: config: what stands in it is not read: others stand beside it",
    )


TOML = """\
# a comment
model_family = "sdxl"
"output_dir" = 'o'   # where
validation_guidance = 4
validation_resolution = "512x768"
report_to = ["tensorboard"]

[clipwatch]
batch_size = 3
wandb = { entity = "me" }

[clipwatch.advice]
after = 5
"""


def test_toml_is_read_with_its_lines(tmp_path: Path) -> None:
    """The same keys as in JSON, and a table [clipwatch]."""
    file = tmp_path / "config.toml"
    file.write_text(TOML)
    settings = read(file)
    protocol = settings.protocol
    assert (protocol.guidance, protocol.width, protocol.height) == (4.0, 512, 768)
    assert (settings.compute.batch_size, settings.advice.after) == (3, 5)
    assert settings.options == {"wandb": {"entity": "me"}}
    lines = {"output_dir": 3, "report_to": 6, "batch_size": 9, "wandb.entity": 10}
    lines["advice.after"] = 13
    for key, line in lines.items():
        assert source(settings, key) == f"config.toml:{line}", key
    file.write_text(TOML.replace("batch_size = 3", "bach_size = 3"))
    with pytest.raises(SettingsError, match=r"config\.toml:9: bach_size: is not a setting"):
        read(file)
    file.write_text("a = [1,\n b")
    with pytest.raises(SettingsError, match=r"config\.toml:2: is not valid TOML"):
        read(file)


ENV = """\
# made by configure
export MODEL_FAMILY='sdxl'
OUTPUT_DIR="o"
VALIDATION_GUIDANCE=4
VALIDATION_PROMPT="a hut  by the sea"
USE_EMA=false
LR_END=${LEARNING_RATE}
UNRELATED=1
TRAINER_EXTRA_ARGS="--validation_guidance=5 --use_dora"
TRAINER_EXTRA_ARGS+=" --validation_num_inference_steps 11"
"""


def test_variables_are_read_with_their_lines(tmp_path: Path) -> None:
    """By the trainer's own table, with the options of its command line after them."""
    file = tmp_path / "config.env"
    file.write_text(ENV)
    settings = read(tmp_path)
    protocol = settings.protocol
    assert settings.paths.output_dir == tmp_path / "o"
    assert (protocol.guidance, protocol.inference_steps) == (5.0, 11)
    assert [it.text for it in protocol.prompts] == ["a hut by the sea"]
    assert source(settings, "output_dir") == "config.env:3"
    assert source(settings, "validation_num_inference_steps") == "config.env:10"
    assert settings.remarks == ()
    file.write_text("TRAINING_NUM_PROCESSES=1\n")
    with pytest.raises(SettingsError, match="names no model to train: name SimpleTuner's config"):
        read(file)


def test_variables_beside_a_configuration_hold_in_it(tmp_path: Path) -> None:
    """The trainer sets what config.env says first, the nearer one over that of `config`."""
    folder = tmp_path / "config" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "config" / "config.env").write_text("A=far\nB=far\n")
    (folder / "config.env").write_text("A=near\n")
    text = '{"model_family": "sdxl", "output_dir": "{env:A}-{env:B}-{env:C}"}'
    (folder / "config.json").write_text(text)
    settings = read(folder, A="environment", C="environment")
    assert settings.paths.output_dir == folder / "near-far-environment"


def test_a_folder_has_the_form_that_the_trainer_takes_first(tmp_path: Path) -> None:
    """config.json, config.toml, config.env, and then clipwatch.json."""
    (tmp_path / "clipwatch.json").write_text(
        '{"output_dir": "o", "pretrained_model_name_or_path": "me/x"}'
    )
    assert read(tmp_path).config.name == "clipwatch.json"
    for name, text in (("config.env", ENV), ("config.toml", TOML), ("config.json", "")):
        (tmp_path / name).write_text(text or '{"model_family": "sdxl"}')
        (tmp_path / "clipwatch.json").write_text("{}")
        assert read(tmp_path).config.name == name


@pytest.mark.parametrize("name", ["config.toml", "config.env", "config.json"])
@given(text=st.text())
def test_any_text_is_a_configuration_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str
) -> None:
    """No text ends a start with a traceback, or with more than a line."""
    file = tmp_path_factory.getbasetemp() / f"any-{name}" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert refusal(file).count("\n") == 0


@given(
    name=st.sampled_from(sorted(tables.table("4.10.1").variables)),
    value=st.text(st.characters(codec="ascii"), max_size=20),
)
def test_any_variable_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    """Each variable of the trainer may hold anything."""
    file = tmp_path_factory.getbasetemp() / "variable" / "config.env"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"MODEL_FAMILY=sdxl\n{name}={value}\n")
    assert refusal(file).count("\n") == 0


def test_the_trainers_own_folder_is_the_default(tmp_path: Path) -> None:
    """Where its configuration names no output_dir; one of another trainer must."""
    file = tmp_path / "config.json"
    file.write_text('{"model_family": "sdxl"}')
    settings = read(file)
    assert settings.paths.output_dir == tmp_path / "simpletuner-results"
    assert source(settings, "output_dir") == "default (SimpleTuner's)"
    file.write_text('{"pretrained_model_name_or_path": "me/x"}')
    with pytest.raises(SettingsError, match="output_dir: is missing"):
        read(file)


def test_the_gui_of_kohya_is_not_taken_for_simpletuner(tmp_path: Path) -> None:
    """Its file shares some names, and is said to be what it is."""
    file = tmp_path / "config.json"
    gui = {"LoRA_type": "Standard", "network_dim": 8, "network_alpha": 1, "output_dir": "./out",
           "pretrained_model_name_or_path": "me/x", "max_resolution": "512,512"}  # fmt: skip
    file.write_text(json.dumps(gui))
    with pytest.raises(SettingsError, match="of kohya_ss's GUI and not SimpleTuner's: write a cli"):
        read(file)
    file.write_text(json.dumps({**gui, "model_family": "sdxl"}))
    assert read(file).paths.output_dir == tmp_path / "out"


def test_packaged_paths_are_found_in_an_installed_trainer(tmp_path: Path) -> None:
    """config/examples/ is the package's, first of all; without one it is said where to find it."""
    file = tmp_path / "config.json"
    keys = {"model_family": "sdxl", "user_prompt_library": "config/examples/mine.json"}
    file.write_text(json.dumps(keys))
    with pytest.raises(SettingsError, match="has it in its package, and is not installed here"):
        read(file)
    package = install(tmp_path / "site")
    (package / "examples" / "mine.json").write_text('{"a": "packaged"}')
    settings = read(file, CLIPWATCH_SIMPLETUNER_PATH="site")
    assert [it.text for it in settings.protocol.prompts] == ["packaged"]
    keys["user_prompt_library"] = "config/examples/../../secret.json"
    file.write_text(json.dumps(keys))
    (tmp_path / "site" / "secret.json").write_text('{"a": "not mine"}')
    with pytest.raises(SettingsError, match="correct the path"):
        read(file, CLIPWATCH_SIMPLETUNER_PATH="site")
