"""Which configurations lie below a folder: each once, whatever the tree."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import below
from clipwatch.settings.below import Below, asks, chosen, configs_below, project_of

FOLDERS = st.sampled_from(["a", "config", ".hidden", "checkpoint-5", "node_modules", "é è"])
FILES = st.sampled_from(["config.json", "config.toml", "config.env", "clipwatch.json", "x.json"])
PLACES = st.lists(
    st.tuples(st.lists(FOLDERS, max_size=4), st.one_of(FILES, st.just("model_index.json"))),
    max_size=12,
)


def passed(names: tuple[str, ...]) -> bool:
    """Whether a path leads through a folder that is not entered."""
    return any(it.startswith((".", "checkpoint-")) or it == "node_modules" for it in names)


@given(PLACES, st.lists(st.tuples(st.lists(FOLDERS, max_size=3), st.lists(FOLDERS, max_size=3))))
def test_of_any_tree_each_folder_s_config_is_found_once(
    places: list[tuple[list[str], str]], links: list[tuple[list[str], list[str]]]
) -> None:
    """As `start` would choose it there; links, also in circles, lead to nothing twice."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve()
        for folders, name in places:
            folder = root.joinpath(*folders)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        plain = {it.parent for it in root.rglob("*.*") if it.is_file()}
        for place, target in links:
            at = root.joinpath(*place)
            at.mkdir(parents=True, exist_ok=True)
            if not (at / "link").is_symlink():
                (at / "link").symlink_to(root.joinpath(*target))
        found = configs_below(root)
        assert found.left == ""
        real = [it.resolve() for it in found.configs]
        assert len(set(real)) == len(real)
        assert all(it.name == chosen([other.name for other in it.parent.iterdir()]) for it in real)
        pipelines = {it for it in plain if (it / "model_index.json").exists()}
        for folder in plain:
            inside = folder.relative_to(root).parts
            hidden = any(above in pipelines for above in folder.parents)
            name = chosen([it.name for it in folder.iterdir()])
            if name and not passed(inside) and not hidden:
                assert folder / name in real


def test_depth_and_number_are_bounded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too deep, or one too many, is left out, and a person hears of it."""
    deep = tmp_path.joinpath(*["x"] * (below.DEEPEST + 1))
    deep.mkdir(parents=True)
    (deep / "config.json").write_text("{}")
    assert configs_below(tmp_path) == Below((), "what lies more than 8 folders deep")
    (deep.parent / "config.json").write_text("{}")
    assert configs_below(tmp_path).configs == (deep.parent / "config.json",)
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(below, "MOST", 2)
    assert len(configs_below(tmp_path).configs) == 2
    assert configs_below(tmp_path).left == "all beyond the first 2 configurations"
    monkeypatch.setattr(below, "MOST_FOLDERS", 2)
    assert configs_below(tmp_path).left == "all beyond the first 2 folders"


def test_a_link_in_a_circle_hides_nothing(tmp_path: Path) -> None:
    """Beside a configuration or in the root itself."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.json").write_text("{}")
    for place in (tmp_path / "a/loop", tmp_path / "loop"):
        place.symlink_to("loop")
    assert configs_below(tmp_path) == Below((tmp_path / "a/config.json",))


def test_a_folder_that_cannot_be_read_is_told_by_who_named_it(tmp_path: Path) -> None:
    """The root's absence is an error: nobody may take it for one without any configuration."""
    with pytest.raises(FileNotFoundError):
        configs_below(tmp_path / "none")


@pytest.mark.parametrize(
    ("config", "project"),
    [
        ("a/config.json", "a"),
        ("a/config/config.json", "a"),
        ("a/config/sdxl/config.json", "a"),
        ("config.json", "."),
        ("config/b/config.toml", "."),
    ],
)
def test_a_training_is_started_above_its_folder_config(config: str, project: str) -> None:
    """As SimpleTuner keeps them; else where its configuration lies."""
    root = Path("/runs")
    assert project_of(root / config, root) == root / project


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ({"evaluation_type": "clip"}, True),
        ({"--evaluation_type": "clip", "output_dir": "o"}, True),
        ({"clipwatch": {}}, True),
        ({"evaluation_type": "none"}, False),
        ({"_class_name": "UNet2DConditionModel", "sample_size": 64}, False),
        ({"output_dir": "o"}, False),
    ],
)
def test_who_asks_for_scores_is_watched(tmp_path: Path, text: object, *, asked: bool) -> None:
    """By the trainer's key or a part of our own; a model's config.json is no training's."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(text))
    assert asks(config, {}) is asked
    (tmp_path / "clipwatch.json").write_text("{}")
    assert asks(config, {})


def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    """Whether it asks for scores nobody knows: it may."""
    config = tmp_path / "config.json"
    config.write_text('{"evaluation_type":\n "clip"')
    with pytest.raises(SettingsError, match=r"config\.json:2: is not valid JSON"):
        asks(config, {})
