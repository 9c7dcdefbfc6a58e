"""Keeping checkpoints from rotation: what is held can be read when the original is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.domain.kinds import StageMode
from clipwatch.domain.state import Checkpoint
from clipwatch.layouts import pipeline_parts
from clipwatch.layouts.files import content_digest, stat
from clipwatch.staging import Held, copying, keep, kept, originals
from staging_kit import descriptors, desk, full, intact, seen
from world import checkpoint as write_lora

LORA = "pytorch_lora_weights.safetensors"
LOCAL_WAYS = ["pin", "copy"]

_CHILD = """
import sys
from safetensors import safe_open
for path in sys.argv[1:]:
    with safe_open(path, "np") as file:
        print(sorted(file.keys()), sum(float(file.get_tensor(n).sum()) for n in file.keys()))
"""


def read_by_a_child(held: Held) -> str:
    """Return what another process reads from what is held."""
    paths = [str(Path(held.path) / file.path) for file in held.files]
    command = [sys.executable, "-c", _CHILD, *paths]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("mode", ["auto", *LOCAL_WAYS])
def test_what_is_held_can_be_read_by_the_evaluator_after_rotation(
    tmp_path: Path, mode: StageMode
) -> None:
    """The rmtree succeeds, and a child process then reads the same tensors from what is held."""
    checkpoint = full(tmp_path / "output", 10, shards=3)
    before = read_by_a_child(Held(checkpoint.path, checkpoint.files, "in place"))
    with desk(tmp_path / "staged", mode) as at:
        held = at.keep(checkpoint)
        assert held.how == mode if mode != "auto" else held.how in {"reflink", "pin"}
        shutil.rmtree(checkpoint.path)
        assert read_by_a_child(held) == before
        assert intact(held, checkpoint)
        assert at.stage.keys == {(checkpoint.name, checkpoint.digest)}
        assert [file.path for file in held.files] == [file.path for file in checkpoint.files]
        assert stat(Path(held.path), [Path(held.path) / f.path for f in held.files]) == held.files


def test_a_pin_has_the_identities_of_the_original(tmp_path: Path) -> None:
    """So that whoever verifies the files sees a change of the original through the pin."""
    checkpoint = full(tmp_path, 10)
    with desk(tmp_path / "staged", "pin") as at:
        held = at.keep(checkpoint)
        assert held.files == checkpoint.files
        with (Path(checkpoint.path) / checkpoint.files[0].path).open("r+b") as original:
            original.seek(1000)
            original.write(b"another step")
        paths = [Path(held.path) / file.path for file in held.files]
        assert stat(Path(held.path), paths) != held.files


def test_a_copy_does_not_change_with_the_original(tmp_path: Path) -> None:
    """Files written in place after they were copied do not matter any more."""
    checkpoint = full(tmp_path, 10)
    with desk(tmp_path / "staged", "copy") as at:
        held = at.keep(checkpoint)
        (Path(checkpoint.path) / checkpoint.files[0].path).write_bytes(b"")
        assert intact(held, checkpoint)


def test_a_pipeline_loads_from_a_pin_after_rotation(tmp_path: Path) -> None:
    """All of it is loaded by diffusers: weights, configs, tokenizer and scheduler."""
    from diffusers import DiffusionPipeline

    from clipwatch.demo.models import write_base_pipeline

    write_base_pipeline(tmp_path / "step-5")
    checkpoint = seen(tmp_path / "step-5")
    before = DiffusionPipeline.from_pretrained(checkpoint.path).unet.state_dict()
    with desk(tmp_path / "staged", "pin") as at:
        held = at.keep(checkpoint)
        shutil.rmtree(checkpoint.path)
        after = DiffusionPipeline.from_pretrained(held.path, use_safetensors=True)
        assert type(after).__name__ == "StableDiffusionPipeline"
        assert all(bool((before[name] == w).all()) for name, w in after.unet.state_dict().items())


def test_of_a_pipeline_only_what_loading_needs_is_kept(tmp_path: Path) -> None:
    """No pickle, no other weights, nothing large, hidden, or in a folder that is not a part."""
    root = tmp_path / "step-5"
    kept_names = ["unet/config.json", "tokenizer/vocab.json", "tokenizer/spiece.model", "a.txt"]
    others = ["unet/model.bin", "unet/x.fp16.safetensors", "optimizer.bin", "random_states_0.pkl"]
    others += ["scaler.pt", "old.ckpt", "x.pth", "samples/1.png", ".guard", "unet_ema/config.json"]
    for name in ["unet/deeper/still", "../output/x", *kept_names, *others]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"{}")
    with (root / "unet" / "large.json").open("wb") as large:
        large.truncate(pipeline_parts.SMALL + 1)
    (root / "model_index.json").write_text(
        '{"_class_name": "X", "unet": ["d", "U"], "tokenizer": ["t", "T"], "../output": ["a", "b"]}'
    )
    files = stat(root, [root / "model_index.json"])
    checkpoint = Checkpoint(5, "step-5", str(root), "whole", "", "pipeline", "", files, "0" * 16)
    assert set(originals.needed(checkpoint)) == {"model_index.json", *kept_names}
    lora = replace(checkpoint, kind="lora")
    assert set(originals.needed(lora)) == {"model_index.json"}


def test_a_copy_is_safe_from_power_cuts_and_takes_no_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is on the disk before it counts; what was read need not be remembered."""
    root = tmp_path / "step-5"
    for part in ("unet", "vae"):
        (root / part).mkdir(parents=True)
        (root / part / "config.json").write_text("{}")
    shutil.copy(write_lora(tmp_path, 1) / LORA, root / "unet" / "x.safetensors")
    (root / "model_index.json").write_text('{"unet": ["d", "U"], "vae": ["d", "V"]}')
    files = stat(root, [root / "model_index.json", root / "unet" / "x.safetensors"])
    digest = content_digest(root, files)
    checkpoint = Checkpoint(5, "step-5", str(root), "whole", "", "pipeline", "", files, digest)
    synced: list[str] = []
    dropped: dict[str, int] = {}

    def fadvise(source: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        name = Path(f"/proc/self/fd/{source}").readlink().relative_to(root).as_posix()
        assert offset == dropped.get(name, 0)
        dropped[name] = offset + length

    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
    )
    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    with desk(tmp_path / "staged", "copy") as at:
        held = at.keep(checkpoint)
    assert synced[0] == tmp_path.name  # in which the stage was made
    assert synced[-1] == ".whole"
    assert sorted(synced[1:-1]) == ["config.json"] * 2 + ["model_index.json", "x.safetensors"]
    assert dropped == {
        path.relative_to(held.path).as_posix(): path.stat().st_size
        for path in Path(held.path).rglob("*")
        if path.is_file() and path.name != ".whole"
    }


def test_what_is_kept_is_for_us_alone(tmp_path: Path) -> None:
    """Folders have mode 0700 and copies 0600, whatever the original has."""
    checkpoint = full(tmp_path, 10)
    (Path(checkpoint.path) / checkpoint.files[0].path).chmod(0o644)
    with desk(tmp_path / "state" / "staged", "copy") as at:
        held = at.keep(checkpoint)
        modes = {path: path.stat().st_mode & 0o777 for path in at.folder.rglob("*")}
        assert at.folder.stat().st_mode & 0o777 == 0o700
        assert {modes[path] for path in modes if path.is_dir()} == {0o700}
        assert {modes[path] for path in modes if path.is_file()} == {0o600}
        assert len(modes) == 3
        assert Path(held.path).is_relative_to(at.folder)


# --- Disks ----------------------------------------------------------------------------------------


def test_a_reflink_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    """Where the file system has no reflinks: once, with the setting to change, and nothing left."""
    output, state = Path("/dev/shm"), tmp_path / "staged"
    with tempfile.TemporaryDirectory(dir=output) as name, desk(state, "reflink") as at:
        kind, problem = at.fail(full(Path(name), 1))
    assert kind == "stage"
    assert '"stage"' in problem
    assert at.left == []


def test_what_cannot_be_pinned_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where links into /proc cannot be followed, auto copies and "pin" says that it cannot."""
    checkpoint = full(tmp_path, 1)
    as_held = kept.as_held

    def only_copies(folder: Path, of: Checkpoint, how: str) -> Held:
        if how == "pin":
            raise PermissionError
        return as_held(folder, of, how)

    def refused(*_: object) -> None:
        raise copying.Unable

    monkeypatch.setattr(keep, "as_held", only_copies)
    monkeypatch.setattr(keep, "reflink", refused)
    with desk(tmp_path / "auto", "auto") as at:
        assert at.keep(checkpoint).how == "copy"
        assert len(at.left) == 1
    with desk(tmp_path / "pin", "pin") as at:
        kind, problem = at.fail(checkpoint)
        assert (kind, "as a pin" in problem) == ("stage", True)
        assert at.left == []
    assert descriptors(below=Path(checkpoint.path)) == []


@pytest.mark.parametrize("refused", [("_by_range",), ("_by_range", "sendfile")])
def test_a_kernel_without_the_fast_ways_copies_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    """copy_file_range, sendfile, read and write: each does where the one before is not offered."""
    checkpoint = full(tmp_path, 1, kilobytes=1024)

    def no(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    if "sendfile" in refused:
        monkeypatch.setattr(os, "sendfile", no)
    monkeypatch.setattr(copying, "_by_range", no)
    with desk(tmp_path / "staged", "copy") as at:
        held = at.keep(checkpoint)
        copied = Path(held.path) / checkpoint.files[0].path
        original = Path(checkpoint.path) / checkpoint.files[0].path
        assert copied.read_bytes() == original.read_bytes()
