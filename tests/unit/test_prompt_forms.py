"""Prompt files of other programs, and strengths of single prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipwatch.cli import main
from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.prompts import read
from simpletuner_kit import install
from simpletuner_kit import read as settings_of


def written(folder: Path, name: str, content: Any) -> Path:
    """Write a file, JSON unless it is a text."""
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content, indent=0))
    return file


def test_drawbench_is_read(tmp_path: Path) -> None:
    """Its header is Prompts, Category."""
    file = written(
        tmp_path, "d.csv", "Prompts,Category\nA green bus.,Colors\nThree spoons.,Counting\n"
    )
    assert [(it.text, it.category) for it in read(file).prompts] == [
        ("A green bus.", "Colors"),
        ("Three spoons.", "Counting"),
    ]


def test_captions_of_coco_are_read(tmp_path: Path) -> None:
    """Each annotation is a prompt, with its own number."""
    coco = {
        "info": {"year": 2014},
        "images": [{"id": 1}],
        "annotations": [
            {"image_id": 1, "id": 7, "caption": "a man on a bike"},
            {"image_id": 1, "id": 8, "caption": "a cyclist"},
        ],
    }
    found = read(written(tmp_path, "captions.json", coco))
    assert found.prompts == (Prompt("7", "a man on a bike"), Prompt("8", "a cyclist"))
    assert found.notes == ()


def test_disabled_samples_of_onetrainer_are_left_out(tmp_path: Path) -> None:
    """They are counted, and have no part in what all samples share."""
    samples = [
        {"enabled": True, "prompt": "a red car", "height": 512},
        {"enabled": False, "prompt": "a blue car"},
        {"enabled": False, "prompt": ""},
    ]
    found = read(written(tmp_path, "samples.json", samples))
    assert [it.text for it in found.prompts] == ["a red car"]
    assert found.notes == ("samples.json: 2 prompts are disabled and left out",)


SUBSETS = """\
[prompt]
width = 512
negative_prompt = "low quality"

[[prompt.subset]]
prompt = "a knight in the rain"

[[prompt.subset]]
seed = 3
prompt = "a lake at dawn"
"""


def test_subsets_of_sd_scripts_are_read(tmp_path: Path) -> None:
    """TOML: each subset has a prompt; what not all share is ignored with a word."""
    found = read(written(tmp_path, "a.toml", SUBSETS))
    assert [it.text for it in found.prompts] == ["a knight in the rain", "a lake at dawn"]
    assert found.notes == (
        "a.toml: ignored, since all prompts are sampled in the same way: seed (1x)",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[prompt\na = 1", ":1: is not TOML"),
        ("prompt = 3", ":1: must hold [prompt] with [[prompt.subset]]"),
        ("[[prompt]]\nprompt = 'a'", ":1: must hold [prompt] with [[prompt.subset]]"),
        ("[[prompt.subset]]\nprompt = 3", ":2: must hold [prompt] with [[prompt.subset]]"),
        ("[prompt]\nsubset = []", ":1: has no prompt"),
        ('[[prompt.subset]]\nprompt = "a\\u0007"', "control character"),
    ],
)
def test_toml_of_another_shape_is_told(tmp_path: Path, text: str, why: str) -> None:
    """One line with the file and, where it is known, the line."""
    with pytest.raises(SettingsError) as refused:
        read(written(tmp_path, "a.toml", text))
    assert why in str(refused.value)


def test_a_prompt_may_have_its_own_strength(tmp_path: Path) -> None:
    """adapter_strength is the prompt's; 0 is one, and another strength is another prompt."""
    library = {
        "plain": "a fox",
        "half": {"prompt": "a fox", "adapter_strength": 0.5},
        "none": {"prompt": "a hut", "adapter_strength": 0},
        "again": {"prompt": "a fox", "adapter_strength": 0.5},
    }
    found = read(written(tmp_path, "library.json", library))
    assert found.prompts == (
        Prompt("plain", "a fox"),
        Prompt("half", "a fox", strength=0.5),
        Prompt("none", "a hut", strength=0.0),
    )
    listed = [{"prompt": "a fox"}, {"prompt": "a fox", "adapter_strength": 0.5}]
    plain, half = read(written(tmp_path, "list.json", listed)).prompts
    assert half.id == f"{plain.id}@0.5"


@pytest.mark.parametrize("strength", ["much", True, [1], "Infinity"])
def test_a_strength_is_a_number(tmp_path: Path, strength: Any) -> None:
    """Anything else is told with its line."""
    library = {"a": "x", "b": {"prompt": "y", "adapter_strength": strength}}
    with pytest.raises(SettingsError, match=r':3: b: "adapter_strength" must be a number'):
        read(written(tmp_path, "library.json", library))


@pytest.mark.parametrize("strength", [1e30, "-1e30", 10**30])
def test_a_strength_has_bounds(tmp_path: Path, strength: Any) -> None:
    """Those of validation_adapter_strength, and they are told."""
    library = {"a": "x", "b": {"prompt": "y", "adapter_strength": strength}}
    bounds = "must be a number from -1000000000 to 1000000000"
    with pytest.raises(SettingsError, match=rf':3: b: "adapter_strength" {bounds}'):
        read(written(tmp_path, "library.json", library))
    with pytest.raises(SettingsError, match=f"validation_adapter_strength: {bounds}"):
        settings_of(tmp_path, {"validation_adapter_strength": strength})


def test_a_misspelt_name_in_a_prompt_is_told(tmp_path: Path) -> None:
    """Once for each, with the first line; names of other programs are left in peace."""
    library = {
        "a": {"prompt": "x", "adaptor_strength": 2, "weight": 1, "image_id": 4, "uid": 5},
        "b": {"prompt": "y", "adaptor_strength": 3, "Enable": False, "Category": "z"},
    }
    assert read(written(tmp_path, "library.json", library)).notes == (
        "library.json:2: adaptor_strength is not read: did you mean 'adapter_strength'?",
        "library.json:9: Enable is not read: did you mean 'enabled'?",
    )


def test_the_trainers_own_prompts_can_be_named(tmp_path: Path) -> None:
    """`prompts: simpletuner` reads them from the one that simpletuner_path names."""
    install(tmp_path / "site")
    settings = settings_of(tmp_path, {}, prompts="simpletuner", simpletuner_path="site")
    assert [it.id for it in settings.protocol.prompts] == ["fox", "hut"]
    assert any("SimpleTuner's own 2 prompts" in it for it in settings.remarks)
    with pytest.raises(SettingsError, match=":8: prompts: no SimpleTuner is installed"):
        settings_of(tmp_path, {}, prompts="simpletuner")


def test_the_command_lists_strengths(tmp_path: Path) -> None:
    """`clipwatch prompts --json` is a library with the same strengths."""
    library = {"half": {"prompt": "a fox", "adapter_strength": 0.5}, "plain": "a hut"}
    file = written(tmp_path, "library.json", library)
    ended = CliRunner().invoke(main, ["prompts", "--library", str(file), "--json"])
    again = written(tmp_path, "again.json", ended.stdout)
    assert read(again).prompts == read(file).prompts
