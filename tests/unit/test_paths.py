"""What the paths of `start` and `rank` mean, and what is asked for where no file says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipwatch.cli.paths import Meant, meant
from clipwatch.kit.errors import SettingsError
from clipwatch.layouts.unordered import unordered
from clipwatch.settings import Settings, load, trainers
from clipwatch.settings.trainers import Found
from clipwatch.settings.values import Given


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """A folder with three files, of which nothing is read here."""
    folder = tmp_path / "loras"
    folder.mkdir()
    for name in ("anime", "ink", "water"):
        (folder / f"{name}.safetensors").touch()
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A pipeline's folder, with no more than its class."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    return folder


def means(folder: Path, *written: str, config: str | None = None, there: bool = False) -> Meant:
    named = None if config is None else Path(config)
    return meant([Path(it) for it in written], named, None, folder, there=there)


def test_a_folder_is_watched_as_a_whole(loras: Path) -> None:
    """Also one that a training makes later, but not for who ranks what is there."""
    folder = loras.parent
    assert means(folder, "loras/") == Meant(None, loras)
    assert means(folder, "later") == Meant(None, folder / "later")
    with pytest.raises(SettingsError, match="there is no 'later': correct the path"):
        means(folder, "later", there=True)


def test_a_folder_above_those_with_checkpoints_is_told(tmp_path: Path) -> None:
    """With what to type instead, whatever lies in them; a folder of its own ones is meant."""
    lora = "pytorch_lora_weights"
    for name in (
        *("kohya/a run/x-000001", "kohya/a run/x", "kohya/a run/x-state/model", "kohya/b/x-000001"),
        *("some/loras/ink", "some/loras/sea", f"apart/ink/{lora}", f"apart/sea/{lora}"),
        *(f"diffusers/out/checkpoint-1/{lora}", f"diffusers/out/{lora}"),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "kohya" / "notes").mkdir()
    for name, told in {
        "kohya": "they lie in kohya/a run (2), kohya/b (1): clipwatch rank 'kohya/a run'",
        "some": "they lie in some/loras (2): clipwatch rank some/loras",
        "diffusers": "they lie in diffusers/out (1): clipwatch rank diffusers/out",
    }.items():
        said = means(tmp_path, name).elsewhere("rank", Path(name))
        assert said == f"{name} holds no checkpoint itself; {told}"
        assert not unordered(tmp_path / name)
    for name in ("some/loras", "kohya/a run", "kohya/notes", "diffusers/out", "apart", "later"):
        assert means(tmp_path, name).elsewhere("start", Path(name)) == ""
    assert means(tmp_path, "some/loras/ink.safetensors").elsewhere("rank", Path("x")) == ""


def test_files_are_meant_alone(loras: Path) -> None:
    """In the folder in which all of them lie."""
    ink, water = "ink.safetensors", "water.safetensors"
    assert means(loras, ink) == Meant(None, loras, (ink,))
    assert means(loras.parent, f"loras/{ink}", f"loras/{water}") == Meant(None, loras, (ink, water))
    with pytest.raises(SettingsError, match=r"there is no 'none\.safetensors': correct the path"):
        means(loras, ink, "none.safetensors")
    with pytest.raises(SettingsError, match="lie in 2 folders: name files of one folder"):
        means(loras, ink, "..")


@pytest.mark.parametrize("name", ["config.json", "clipwatch.json"])
def test_a_configuration_is_one_as_with_its_option(loras: Path, name: str) -> None:
    """The file, and a folder with it; not beside another."""
    (loras / name).write_text("{}")
    folder = loras.parent
    assert means(folder, "loras") == Meant(loras)
    assert means(folder, f"loras/{name}") == Meant(loras / name)
    text = "loras and --config other.json are two configurations: name one"
    with pytest.raises(SettingsError, match=text):
        means(folder, "loras", config="other.json")


def test_a_configuration_may_be_laid_beneath_a_folder(loras: Path) -> None:
    """With --config, and for files by the clipwatch.json beside them."""
    folder = loras.parent
    assert means(folder, "loras", config="my.json") == Meant(Path("my.json"), loras)
    (loras / "clipwatch.json").write_text("{}")
    found = means(folder, "loras/ink.safetensors")
    assert found == Meant(loras / "clipwatch.json", loras, ("ink.safetensors",))


def test_a_folder_is_named_once(loras: Path) -> None:
    """Here and with --output-dir is one too many."""
    text = "loras and --output-dir out both name checkpoints: leave one of them out"
    with pytest.raises(SettingsError, match=text):
        meant([Path("loras")], None, "out", loras.parent)


def test_a_configuration_that_is_not_read_is_told(loras: Path) -> None:
    """It lies where it would be looked for without a path."""
    assert means(loras.parent, "loras").notes(loras.parent) == []
    (loras.parent / "config").mkdir()
    (loras.parent / "config/config.json").write_text("{}")
    [note] = means(loras.parent, "loras").notes(loras.parent)
    assert note == "config/config.json is not read: name it with --config if it is meant"


def settings(loras: Path, *names: str, ranked: bool = False, **flags: Any) -> Settings:
    found = means(loras.parent, *(names or ("loras",)))
    return found.reader({"device": "cpu", **flags}, loras.parent, ranked=ranked)()


def test_the_base_model_is_asked_for_with_its_flag(loras: Path) -> None:
    """In one line that names no key and no file."""
    with pytest.raises(SettingsError) as raised:
        settings(loras)
    assert str(raised.value) == (
        "no base model is known: name it with --base-model, as a folder of diffusers or an id of"
        " the Hub"
    )
    assert raised.value.exit_code == 2


def test_the_base_that_was_trained_on_is_named(
    loras: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files tell of it, that is the line; whoever names one need not read it."""
    told = "ink.safetensors: its base 'mine' is not here: set --base-model"
    monkeypatch.setattr(trainers, "found", lambda *_, **__: Found("kohya", (), (told, "more")))
    with pytest.raises(SettingsError) as raised:
        settings(loras)
    assert str(raised.value) == told
    (loras.parent / "clipwatch.json").write_text('{"output_dir": "loras"}')
    with pytest.raises(SettingsError, match=told):
        load(loras.parent, environ={}, cwd=loras.parent)
    assert settings(loras, pretrained_model_name_or_path=str(base)).remarks == ("more",)


def test_the_size_is_asked_for_where_nothing_tells_it(loras: Path) -> None:
    """A model of which nothing is known; with --size it goes on."""
    with pytest.raises(SettingsError) as raised:
        settings(loras, pretrained_model_name_or_path="me/mine")
    assert str(raised.value) == (
        "no size of pictures is known for me/mine: name it with --size, as 512 or 1024x768"
    )
    made = settings(loras, pretrained_model_name_or_path="me/mine", validation_resolution="640")
    assert (made.protocol.width, made.source("validation_resolution")) == (640, "--size")


def test_what_nobody_sets_suits_the_base_model(loras: Path, base: Path) -> None:
    """Its usual size and guidance; flags go before them, and nothing is said to be odd."""
    made = settings(loras, pretrained_model_name_or_path="base")
    protocol = made.protocol
    size = (protocol.width, protocol.height)
    assert (*size, protocol.inference_steps, protocol.guidance) == (1024, 1024, 30, 5.0)
    assert made.source("validation_resolution") == "usual for StableDiffusionXLPipeline"
    assert made.doubts == ()
    assert protocol.base_model == str(base)
    assert made.scoring.evaluation_type == "clip"
    asked = settings(
        loras,
        pretrained_model_name_or_path=str(base),
        validation_guidance="3",
        validation_num_inference_steps="7",
    )
    assert (asked.protocol.guidance, asked.protocol.inference_steps) == (3.0, 7)
    assert asked.source("pretrained_model_name_or_path") == "--base-model"
    turbo = settings(loras, pretrained_model_name_or_path="stabilityai/sdxl-turbo").protocol
    assert (turbo.width, turbo.inference_steps, turbo.guidance) == (512, 4, 0.0)


@pytest.mark.usefixtures("base")
def test_files_that_no_training_orders_are_of_their_own(loras: Path) -> None:
    """So for a folder of nothing else, for a file that is none of a training's, and for a rank."""

    def layout(*names: str, ranked: bool = False, **flags: Any) -> str:
        flags = {"pretrained_model_name_or_path": "base", **flags}
        return settings(loras, *names, ranked=ranked, **flags).watching.layout

    assert layout() == layout("loras/ink.safetensors") == "files"
    assert layout(layout="kohya") == "kohya"
    (loras / "water-step00000500.safetensors").touch()
    assert layout() == layout("loras/water.safetensors") == "auto"  # the last of that training
    assert layout("loras/ink.safetensors") == layout(ranked=True) == "files"
    for name in ("anime", "ink"):
        (loras / f"{name}.safetensors").unlink()
    assert layout(ranked=True) == "auto"
    (loras / "other-step00000500.safetensors").touch()
    assert (layout(), layout(ranked=True)) == ("auto", "files")


@pytest.mark.usefixtures("base")
def test_what_the_trainer_left_lies_beneath_all_else(
    loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its source and its remarks, also under a clipwatch.json, and never under SimpleTuner."""
    asked: list[tuple[Path, list[str], bool]] = []

    def found(output_dir: Path, files: Any = (), *, apart: bool = False) -> Found:
        asked.append((output_dir, [it.name for it in files], apart))
        told = {"validation_seed": 7, "validation_guidance": "4", "max_prompts": 3}
        source = "ink.safetensors"
        keys = tuple((name, Given(it, source, name)) for name, it in told.items())
        return Found("kohya", keys, ("the trigger word is not read",))

    monkeypatch.setattr(trainers, "found", found)
    made = settings(
        loras,
        "loras/ink.safetensors",
        pretrained_model_name_or_path="base",
        validation_guidance="2",
    )
    assert asked == [(loras, ["ink.safetensors"], True)]
    assert (made.protocol.seed, made.source("validation_seed")) == (7, "ink.safetensors")
    assert (made.protocol.guidance, len(made.protocol.prompts)) == (2.0, 3)
    assert made.notes[0] == "the trigger word is not read"

    least = {"output_dir": "loras", "pretrained_model_name_or_path": "base", "max_prompts": 2}
    config = loras.parent / "clipwatch.json"
    config.write_text(json.dumps(least))
    own = load(config, environ={}, cwd=loras.parent)
    assert (own.protocol.seed, len(own.protocol.prompts)) == (7, 2)
    assert own.source("max_prompts") == "clipwatch.json:1"
    config = loras.parent / "config.json"
    config.write_text(json.dumps({**least, "model_family": "sdxl", "evaluation_type": "clip"}))
    (loras.parent / "clipwatch.json").unlink()
    del asked[:]
    assert (load(config, environ={}, cwd=loras.parent).protocol.seed, asked) == (0, [])


def test_what_is_named_is_no_other_users_to_set(loras: Path, base: Path) -> None:
    """A path goes before the environment."""
    environ = {"CLIPWATCH_OUTPUT_DIR": "elsewhere"}
    given = Given(str(loras), "PATH", "PATH")
    flags = {"output_dir": given, "pretrained_model_name_or_path": str(base)}
    made = load(None, flags=flags, environ=environ, cwd=loras.parent)
    assert (made.paths.output_dir, made.source("output_dir")) == (loras, "PATH")


def test_an_address_is_no_folder_here(tmp_path: Path) -> None:
    """It is read by no disk, and there is one of it."""
    assert means(tmp_path, "hf://me/my-lora/") == Meant(None, address="hf://me/my-lora")
    with pytest.raises(SettingsError, match="name one address alone"):
        means(tmp_path, "s3://a/b", "s3://c/d")
