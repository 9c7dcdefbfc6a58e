"""The example and the manual say what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clipwatch.settings import KEYS, load
from clipwatch.settings.settings import TRAINER_KEYS
from clipwatch.settings.simpletuner.tables import every_option
from docs_kit import DOCUMENTS, objects, tables
from places import ROOT

EXAMPLE = ROOT / "config.example.json"
MANUAL = (ROOT / "docs" / "settings.md").read_text()


def test_the_example_is_strict_json_and_loads(tmp_path: Path) -> None:
    """The trainer's JSON parser takes the example, and clipwatch loads it."""
    json.loads(EXAMPLE.read_text())
    settings = load(EXAMPLE, environ={}, cwd=tmp_path)
    assert settings.publishing.trackers == ("tensorboard",)
    assert settings.paths.output_dir == tmp_path / "output" / "sdxl-lora"


def test_the_example_is_complete() -> None:
    """Every key of the trainer that clipwatch evaluates and every key of its own is shown."""
    example = json.loads(EXAMPLE.read_text())
    own = example["clipwatch"]
    assert example.keys() | own.keys() >= TRAINER_KEYS
    inside = {f"{name}.{key}" for name in own if isinstance(own[name], dict) for key in own[name]}
    assert own.keys() | inside >= KEYS.keys() - TRAINER_KEYS


def defaults(document: Path) -> list[tuple[str, str]]:
    """Return (key, what its row has under "default") of a document's tables of keys."""
    found: list[tuple[str, str]] = []
    for heading, *rows in tables(document):
        if heading[0] == "key" and heading[-1] == "default":
            for row in rows:
                keys = re.findall(r"`([\w.]+)`", row[0])
                cells = [row[-1]] if len(keys) == 1 else row[-1].split(", ")
                found += zip(keys, cells, strict=True)
    return found


def test_the_manual_has_every_key() -> None:
    """Each key has one row in the tables, and no other has."""
    assert sorted(key for key, _ in defaults(ROOT / "docs/settings.md")) == sorted(KEYS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda it: str(it.relative_to(ROOT)))
def test_defaults_are_those_of_the_program(document: Path) -> None:
    """A default that is a value is the key's; one in words, or another key's, has no such value."""
    for name, told in defaults(document):
        key, value = KEYS[name], re.fullmatch(r"`([^`]*)`|([\d.]+)", told)
        if value is None or (value[1] in KEYS and key.default is None):
            assert key.default in (None, "", ()), f"{name}: {told}"
        else:
            assert key.read(value[1] or value[2]) == key.default, f"{name}: {told}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda it: str(it.relative_to(ROOT)))
def test_settings_in_documents_load(document: Path, tmp_path: Path) -> None:
    """Each block of settings is taken as it stands, and nothing in it looks like a slip."""
    (tmp_path / "base").mkdir()
    for block in (it for it in objects(document) if it.keys() <= {"clipwatch", *every_option()}):
        trainers = {"model_family": "sd1x", "pretrained_model_name_or_path": "./base"}
        config = {"output_dir": "output", **({} if "output_dir" in block else trainers), **block}
        own = {"evaluation_type": "clip", **block.get("clipwatch", {})}
        if own.get("prompts", "").startswith("hf:"):  # needs a network; see test_prompt_hub.py
            own["prompts"] = "core"
        file = tmp_path / "config.json"
        file.write_text(json.dumps({**config, "clipwatch": own}))
        assert load(file, environ={}, cwd=tmp_path).remarks == ()


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
