"""`clipwatch rank`: a folder of LoRAs and nothing else, with real processes, files and models."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import adapter_kit
from clipwatch.demo import models
from clipwatch.domain.events import CheckpointDiscarded, ImagesScored
from clipwatch.journal import Journal, log_file
from layout_kit import weights
from real_world import command, environment

FORMS = {
    "anime": "diffusers",
    "flat-colour": "comfyui sdxl",
    "ink_v2": "peft",
    "portrait-helper": "no metadata",
    "watercolour": "comfyui sdxl",
}
"""File → the form of its LoRA; no name tells a step."""

OF_ANOTHER = {"unet.mid.far.lora_A.weight": 8, "unet.mid.far.lora_B.weight": 8}

FEW = ("--max-prompts", "2", "--steps", "1")


@pytest.fixture(scope="module")
def home(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model and five LoRAs of it; the log is shared by the tests."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "base").symlink_to(base)
    for seed, (name, form) in enumerate(FORMS.items(), start=1):
        state, config = adapter_kit.unet_lora(base, seed)
        path = adapter_kit.written(form, folder / f"loras/{name}.safetensors", state, config)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # nobody waits for it to settle
    return folder


def typed(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command in that folder, with a small CLIP and a state directory of its own."""
    ours = {
        "CLIPWATCH_STATE_DIR": str(home / "state"),
        "CLIPWATCH_PRETRAINED_EVALUATION_MODEL_NAME_OR_PATH": str(models.CLIP),
        "CLIPWATCH_DEVICE": "cpu",
        "CLIPWATCH_SETTLE_SECONDS": "0",
        "COLUMNS": "80",
    }
    return subprocess.run(
        command(*words),
        cwd=home,
        env={**environment(), **ours},
        capture_output=True,
        text=True,
        check=False,
    )


def ranked(home: Path, *words: str) -> dict[str, Any]:
    ended = typed(home, "rank", *words, "--base-model", "base", *FEW, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def made(home: Path) -> int:
    """Return how many images the log has."""
    with Journal(log_file(home / "state"), read_only=True) as journal:
        told = (it.event for it in journal.read())
        return sum(len(it.images) for it in told if isinstance(it, ImagesScored))


def test_a_folder_of_loras_is_ranked_once_and_for_all(home: Path) -> None:
    """By name, beside the base model; again nothing is generated, also for a part of them."""
    first = ranked(home, "loras")
    names = {f"{name}.safetensors" for name in FORMS}
    assert (first["unit"], first["n_checkpoints"], first["n_prompts"]) == ("file", 5, 2)
    assert first["best"]["checkpoint"] in names
    assert first["prompts"] == {"n": 2, "from": ["core"]}
    assert first["left_out"] == {}
    assert first["base"] is not None
    assert made(home) == 2 * (len(names) + 1)

    ended = typed(home, "rank", "loras", "--base-model", "base", *FEW)
    assert ended.returncode == 0, ended.stderr
    table, *lines, last = ended.stdout.splitlines()
    assert table.split()[0] == "file"
    rows = [it.split() for it in lines[: len(names)]]
    assert [(row[0], row[-1]) for row in rows] == [
        (str(number), name) for number, name in enumerate(sorted(names), start=1)
    ]
    assert [row[-1] for row in rows if "best" in row] == [first["best"]["checkpoint"]]
    assert f"{first['best']['checkpoint']} has the highest mean of 5 files on 2 p" in ended.stdout
    assert f"The base model alone has {first['base']:.4f}." in ended.stdout
    assert last.startswith("Made with 2 prompts of core (clipwatch's own; clipwatch prompts shows")
    assert "32x32, 1 steps, guidance 7.5, seed 0" in last
    assert "each file is a checkpoint of its own" in ended.stderr
    assert made(home) == 2 * (len(names) + 1)

    alone = ranked(home, "loras/ink_v2.safetensors")
    assert (alone["n_checkpoints"], alone["best"]["checkpoint"]) == (1, "ink_v2.safetensors")
    assert alone["best"]["step"] == 3
    assert made(home) == 2 * (len(names) + 1)


@pytest.mark.thorough
@pytest.mark.timeout(400)  # two calls with all models, beside whatever else runs
def test_what_is_surely_not_the_best_gets_fewer_images(base: Path, tmp_path: Path) -> None:
    """One that breaks the model, beside one that does nothing; --full makes the rest."""
    (tmp_path / "base").symlink_to(base)
    for name, strength in (("breaks", 1.0), ("nothing", 0.0)):
        state, config = adapter_kit.unet_lora(base, 3)
        weakened = {key: it * (strength if "lora_B" in key else 1.0) for key, it in state.items()}
        path = tmp_path / f"loras/{name}.safetensors"
        os.utime(adapter_kit.written("peft", path, weakened, config), (1_700_000_000,) * 2)
    call = ("rank", "loras", "--base-model", "base", "--max-prompts", "40", "--steps", "1")
    ended = typed(tmp_path, *call)
    assert ended.returncode == 0, ended.stderr
    assert (
        "1 more is surely not the best, and not made to the end: breaks.safetensors after 32 of "
        "40 prompts.\n" in ended.stdout
    )
    assert "It is the only one that was scored on all prompts.\n" in ended.stdout
    assert "\n72 of 80 images were made; with --full the others are, too.\n" in ended.stdout
    assert "No score for" not in ended.stdout
    assert made(tmp_path) == 40 + 72
    ended = typed(tmp_path, *call, "--full", "--json")
    found = json.loads(ended.stdout)
    assert (found["images"], found["outdone"]) == ({"made": 80, "of": 80}, [])
    assert found["n_checkpoints"] == 2
    assert made(tmp_path) == 40 + 80


@pytest.mark.thorough
def test_one_of_several_is_scored_alone(home: Path, tmp_path: Path) -> None:
    """Nothing is said or made of the others, and later they are added."""
    for name in ("base", "loras"):
        (tmp_path / name).symlink_to(home / name)
    one = ranked(tmp_path, "loras/ink_v2.safetensors")
    assert (one["n_checkpoints"], made(tmp_path)) == (1, 4)
    two = ranked(tmp_path, "loras/ink_v2.safetensors", "loras/anime.safetensors")
    assert (two["n_checkpoints"], made(tmp_path)) == (2, 6)
    with Journal(log_file(tmp_path / "state"), read_only=True) as journal:
        assert not any(isinstance(it.event, CheckpointDiscarded) for it in journal.read())


@pytest.mark.thorough
def test_what_is_no_lora_is_left_out_with_its_reason(home: Path, tmp_path: Path) -> None:
    """The others are ranked; the same weights under another name are not scored twice."""
    (tmp_path / "base").symlink_to(home / "base")
    (tmp_path / "loras").mkdir()
    for name in ("anime.safetensors", "copy.safetensors"):
        data = (home / "loras/anime.safetensors").read_bytes()
        (tmp_path / "loras" / name).write_bytes(data)
    vae = home / "base/vae/diffusion_pytorch_model.safetensors"
    (tmp_path / "loras/vae.safetensors").write_bytes(vae.read_bytes())
    (tmp_path / "loras/old.ckpt").write_bytes(b"pickle")
    (tmp_path / "loras/notes.txt").write_text("mine")
    found = ranked(tmp_path, "loras")
    assert found["n_checkpoints"] == 1
    assert found["left_out"]["vae.safetensors"].startswith("it holds ")
    [twin] = {"anime.safetensors", "copy.safetensors"} - {found["best"]["checkpoint"]}
    assert found["left_out"][twin].startswith("it holds the same weights as ")
    told = typed(tmp_path, "rank", "loras", "--base-model", "base", *FEW)
    assert "No score for vae.safetensors: it holds " in told.stdout
    assert "1 .ckpt file, a pickle that is never opened (old.ckpt)" in told.stderr


@pytest.mark.thorough
def test_where_nothing_fits_each_reason_is_told(home: Path, tmp_path: Path) -> None:
    """LoRAs of another base model: exit code 1, and no best."""
    (tmp_path / "base").symlink_to(home / "base")
    (tmp_path / "loras").mkdir()
    for seed, name in enumerate(("a", "b")):
        weights(tmp_path / f"loras/{name}.safetensors", seed + 1.0, **OF_ANOTHER)
    call = ("rank", "loras", "--base-model", "base", *FEW)
    ended = typed(tmp_path, *call)
    assert ended.returncode == 1
    first, made_with = ended.stdout.splitlines()
    assert first.startswith("No score for 2 files (a.safetensors, b.safetensors): it cannot be app")
    assert "the base model has not 1 module (unet.mid.far)" in first
    assert first.endswith(": if it was made for another one, name that with --base-model")
    assert made_with.startswith("Made with 2 prompts")
    ended = typed(tmp_path, *call, "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert (found["best"], list(found["left_out"])) == (None, ["a.safetensors", "b.safetensors"])


def test_what_lacks_is_one_line(home: Path, tmp_path: Path) -> None:
    """With exit code 2, before anything is made; an empty folder ends with 1."""
    for name in ("base", "loras"):
        (tmp_path / name).symlink_to(home / name)
    ended = typed(tmp_path, "rank", "loras")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "Error: no base model is known: name it with --base-model, as a folder of diffusers or an "
        "id of the Hub\n"
    )
    ended = typed(tmp_path, "start", "loras", "--base-model", "nobase/at-all")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith("name it with --size, as 512 or 1024x768")
    ended = typed(tmp_path, "rank", "none", "--base-model", "base")
    assert (ended.returncode, ended.stderr) == (2, "Error: there is no 'none': correct the path\n")
    (tmp_path / "empty").mkdir()
    ended = typed(tmp_path, "rank", "empty", "--base-model", "base")
    assert ended.returncode == 1
    assert f"there is nothing to score in {tmp_path / 'empty'}: it holds no LoRA" in ended.stderr
    assert not (tmp_path / "state").exists()
    ended = typed(tmp_path, "rank", "loras", "--base-model", "nobase/at-all", "--size", "32x32")
    assert ended.returncode == 1
    first, *_ = ended.stdout.splitlines()
    assert first.startswith("No score for 5 files (anime.safetensors, flat-colour.safetensors, ")
    assert "nobase/at-all" in first


@pytest.mark.thorough
def test_start_watches_such_a_folder(home: Path) -> None:
    """With --once it scores what `rank` scores, in the same run; the settings say why."""
    ended = typed(home, "start", "loras", "--base-model", "base", *FEW, "--print-settings")
    assert ended.returncode == 0, ended.stderr
    assert 'layout = "files"  (no training orders these files)' in ended.stdout
    assert f'output_dir = "{home}/loras"  (PATH)' in ended.stdout
    assert 'validation_resolution = "32x32"  (usual for StableDiffusionPipeline)' in ended.stdout
    before = ranked(home, "loras")
    ended = typed(home, "start", "loras", "--base-model", "base", *FEW, "--once")
    assert ended.returncode == 0, ended.stderr
    assert f"as run {before['run']}\n" in ended.stderr
    assert made(home) == 2 * (len(FORMS) + 1)
