"""The example and the manual say what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clipwatch.settings import KEYS, load
from clipwatch.settings.keys import TRAINER_KEYS
from clipwatch.settings.values import text

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.json"
MANUAL = (ROOT / "docs" / "settings.md").read_text()


def test_the_example_is_strict_json_and_loads(tmp_path: Path) -> None:
    """The trainer's JSON parser takes the example, and clipwatch loads it."""
    json.loads(EXAMPLE.read_text())
    settings = load(EXAMPLE, environ={}, cwd=tmp_path)
    assert settings.trackers == ("tensorboard",)
    assert settings.output_dir == tmp_path / "output" / "sdxl-lora"


def test_the_example_is_complete() -> None:
    """Every key of the trainer that clipwatch evaluates and every key of its own is shown."""
    example = json.loads(EXAMPLE.read_text())
    own = example["clipwatch"]
    assert example.keys() | own.keys() >= TRAINER_KEYS
    inside = {f"{name}.{key}" for name in own if isinstance(own[name], dict) for key in own[name]}
    assert own.keys() | inside >= KEYS.keys() - TRAINER_KEYS


def test_the_manual_has_every_key_with_its_default() -> None:
    """Each key has one row in the tables; a default that is a value stands in it."""
    rows = {
        cells[0]: cells[2]
        for line in MANUAL.splitlines()
        if len(cells := [cell.strip(" `") for cell in line.strip("|").split(" | ")]) == 3
    }
    for name, key in KEYS.items():
        assert name in rows, name
        default = text(key.default)
        if default and name != "validation_resolution":
            assert re.sub(r"\.0$", "", default) == rows[name], name


def test_the_manuals_example_loads(tmp_path: Path) -> None:
    """The commented example is accepted as it stands."""
    found = re.search(r"```jsonc\n(.*?)```", MANUAL, re.DOTALL)
    assert found
    file = tmp_path / "config.json"
    file.write_text(found[1])
    settings = load(file, environ={}, cwd=tmp_path)
    assert settings.options == {"wandb": {"entity": "my-team"}}
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[1])
