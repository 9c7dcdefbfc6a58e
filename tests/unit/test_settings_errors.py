"""What is wrong is said in one line, with file, line and key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import KEYS, load

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}


def read(folder: Path, environ: dict[str, str] | None = None, **keywords: Any) -> None:
    """Load a config that is right, with something wrong laid over it."""
    (folder / "config.json").write_text(json.dumps(LEAST))
    load(folder, environ=environ or {}, cwd=folder, **keywords)


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"output_dir": None, "model_family": None}, ": output_dir: is missing"),
    ({"evaluation_type": None}, ": evaluation_type: is 'none', so there is nothing to score: set"),
    ({"evaluation_type": "fid"}, ':3: evaluation_type: must be clip or none, not "fid"'),
    ({"--seed": "x"}, ':6: --seed: must be a whole number of at least -1, not "x"'),
    ({"model_family": "wan"}, ":4: model_family: 'wan' is not a text-to-image family: it makes v"),
    ({"model_family": "ace_step"}, "'ace_step' is not a text-to-image family: it makes sound"),
    ({"model_family": "sdxxl"}, "SimpleTuner 4.10.1 has no family 'sdxxl': did you mean 'sdxl'?"),
    ({"model_family": "anima"}, ":4: model_family: 'anima' cannot be scored: SimpleTuner 4.10.1 "),
    ({"model_family": None}, "pretrained_model_name_or_path: is missing, and so is model_family"),
    ({"model_family": "deepfloyd"}, "'deepfloyd' has no default base model"),
    ({"model_flavour": "mine"}, ":6: model_flavour: 'mine' has no known base model (known: base-0"),
    ({"model_family": "flux", "model_flavour": "kontext"}, "'kontext' starts from pictures"),
    ({"report_to": "tensorbord"}, ":6: report_to: unknown tracker 'tensorbord': choose among"),
    ({"clipwatch": {"report_to": "clearml"}}, "clipwatch has no adapter for 'clearml': name anot"),
    ({"pretrained_model_name_or_path": "./gone"}, ":6: pretrained_model_name_or_path: there is no"),
    ({"pretrained_model_name_or_path": "a/b/c"}, "there is no"),
    ({"pretrained_model_name_or_path": "a b"}, "is neither a folder nor a Hub id"),
    ({"user_prompt_library": "gone.json"}, ":6: user_prompt_library: there is no"),
    ({"user_prompt_library": "/dev/zero"}, ":6: user_prompt_library: '/dev/zero' is not a regular"),
    ({"clipwatch": {"prompts": "."}}, "' is not a regular file: name one"),
    ({"attention_mechanism": "sageattention"}, ":6: attention_mechanism: 'sageattention' and eval"),
    ({"clipwatch": 1}, ":6: clipwatch: must be an object"),
    ({"clipwatch": {"bach_size": 2}}, ":7: bach_size: is not a setting of clipwatch: did you mean"),
    ({"clipwatch": {"zzzzzz": 2}}, ":7: zzzzzz: is not a setting of clipwatch"),
    ({"clipwatch": {"batch_size": 0}}, ":7: batch_size: must be a whole number of at least 1, not"),
    ({"clipwatch": {"strengths": True}}, ":7: strengths: must be a list of numbers: [0.6, "),
    ({"clipwatch": {"strengths": [1, "x"]}}, ":7: strengths: must be a list of numbers: [0.6"),
    ({"clipwatch": {"strengths": ["nan"]}}, ":7: strengths: must be a list of numbers: [0.6"),
    ({"clipwatch": {"strengths": [1, 2e9]}}, ":7: strengths: must be a list of numbers: [0.6"),
    ({"clipwatch": {"strengths": [1, 0.8, 1.0]}}, ":7: strengths: names 1 twice"),
    ({"clipwatch": {"strengths": [0, -0.0]}}, ":7: strengths: names 0 twice"),
    ({"clipwatch": {"strengths": [*range(1, 18)]}}, ":7: strengths: names 17 strengths: at most"),
    ({"clipwatch": {"wandb": "me"}}, ":7: wandb: must be an object of options"),
    ({"clipwatch": {"wandb": {"a": []}}}, ":8: wandb.a: must be a text, not a list"),
    ({"clipwatch": {"wandb": {"a": {"b": 1}}}}, "wandb.a: must be a text, not an object"),
    ({"clipwatch": {"wandb": {"a b": 1}}}, ":8: wandb.a b: is not a setting of clipwatch"),
    ({"num_validation_images": 10**6}, ":6: num_validation_images: makes 144000000 images of each"),
    ({"clipwatch": {"working_dir": "x"}}, ":7: working_dir: there is no folder"),
    ({"clipwatch": {"state_dir": "out/x"}}, ": state_dir: "),
]


@pytest.mark.parametrize(("config", "text"), ERRORS)
def test_errors_name_file_line_and_key(tmp_path: Path, config: dict[str, Any], text: str) -> None:
    """A wrong setting is one line: the file, the line, the key as written, and what to do."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LEAST | config, indent=0))
    with pytest.raises(SettingsError, match=re.escape(text)) as raised:
        load(file, environ={}, cwd=tmp_path)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"CLIPWATCH_DEVICE": "gpu"},
            "CLIPWATCH_DEVICE: must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps",
        ),
        ({"CLIPWATCH_DEVISE": "cpu"}, "CLIPWATCH_DEVISE: is not a setting of clipwatch: did you"),
        ({"CLIPWATCH_WANDB": "me"}, "CLIPWATCH_WANDB: must be an object of options"),
        ({"CLIPWATCH_WANDB": "[]"}, "CLIPWATCH_WANDB: must be an object of options"),
    ],
)
def test_errors_name_the_variable(tmp_path: Path, environ: dict[str, str], text: str) -> None:
    """A wrong environment variable is named as it is."""
    with pytest.raises(SettingsError, match=f"^{re.escape(text)}"):
        read(tmp_path, environ=environ)


def test_errors_name_the_flag(tmp_path: Path) -> None:
    """A wrong flag is named as on the command line."""
    with pytest.raises(SettingsError, match=r"^--batch-size: must be a whole number"):
        read(tmp_path, flags={"batch_size": 0})


def test_errors_name_the_other_file(tmp_path: Path) -> None:
    """A wrong key of clipwatch.json is named with its own file and line."""
    file = tmp_path / "clipwatch.json"
    file.write_text('{"device": "cpu",\n"max_train_steps": 5}')
    with pytest.raises(SettingsError, match=f"^{re.escape(str(file))}:2: max_train_steps: is not"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["config.yaml", "config.yml"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    """YAML is no form of SimpleTuner's."""
    with pytest.raises(SettingsError, match="is not supported: use JSON or TOML"):
        load(tmp_path / name, environ={}, cwd=tmp_path)


@given(value=st.text(), key=st.sampled_from(sorted(KEYS)))
def test_any_text_is_a_setting_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    """Whatever text a key holds, there are settings or one line that names the key."""
    folder = tmp_path_factory.mktemp("any")
    file = folder / "config.json"
    file.write_text(json.dumps(LEAST | {"clipwatch": {key: value}}, indent=0))
    try:
        settings = load(file, environ={}, cwd=folder)
    except SettingsError as error:
        assert str(error).startswith(str(file))  # noqa: PT017 - most texts are fine
        assert key in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(settings.protocol.digest) == 16
