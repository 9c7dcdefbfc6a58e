"""File systems and names that are unlike those at home."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.names import run_id
from clipwatch.domain.sighting import Whole
from clipwatch.layouts import Scanner
from clipwatch.service.lock import exclusive
from staging_kit import desk, full, intact
from tracker_disks import mounted, run
from world import World, checkpoint

LORA = "pytorch_lora_weights.safetensors"


def rewrite(file: Path, value: float) -> None:
    """Write other weights into a file, in place, within the second in which it was made."""
    before = file.stat()
    save_file({"unet.lora_A.weight": np.full(4, value, np.float32)}, file.with_suffix(".new"))
    content = file.with_suffix(".new").read_bytes()
    file.with_suffix(".new").unlink()
    with file.open("r+b") as same:
        same.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        *(before.st_size, before.st_mtime_ns),
        before.st_ino,
    )


def digest(scanner: Scanner) -> str:
    """Look until the checkpoint is whole, which may take a second look; return its digest."""
    while True:
        (seen,) = scanner.scan()
        if isinstance(seen.verdict, Whole):
            return seen.verdict.digest


@pytest.mark.parametrize("behind", [0, 60])
def test_weights_written_again_within_one_second_are_noticed(tmp_path: Path, behind: int) -> None:
    """On a disk whose times are whole seconds: ext4 with small inodes, as ext3 had them.

    So they are where the clock of a file server is behind ours by so many seconds.
    """
    image, output = tmp_path / "image", tmp_path / "output"
    image.write_bytes(bytes(4 << 20))
    run("mkfs.ext4", "-q", "-I", "128", "-O", "^has_journal", image)
    with mounted(output, "-o", "loop", image):
        file = checkpoint(output, 1, 0.1) / LORA
        assert file.stat().st_mtime_ns % 10**9 == 0
        wall = lambda: time.time() + behind  # noqa: E731
        scanner = Scanner(output, weights="live", settle_seconds=0.0, wall=wall)
        digests = [digest(scanner)]
        for value in (0.2, 0.1):
            rewrite(file, value)
            digests.append(digest(scanner))
    assert digests[0] == digests[2] != digests[1]


def test_a_name_that_cannot_be_printed_beside_its_twin_is_told_once(tmp_path: Path) -> None:
    """One is called as the other is told: both have names, and no look adds anything."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    odd = "pipe\x1b-7"
    for name in (odd, ascii(odd)[1:-1]):
        (world.output / name).mkdir()
        (world.output / name / "model_index.json").write_text("[]")
    world.once()
    known = world.logged
    world.once()
    assert world.logged == known
    names = sorted(world.run.checkpoints)
    assert names[:2] == ["checkpoint-1", r"pipe\x1b-7"]
    assert names[2].startswith(r"pipe\x1b-7~")


def test_long_names_are_kept_apart(tmp_path: Path) -> None:
    """A checkpoint whose name leaves no room for ours is kept all the same, for the next start."""
    found, places = full(tmp_path / "output", 1), set()
    names = ["x" * (length - 1) + last for length in (200, 230, 231, 250, 255) for last in "ab"]
    names += ["\U0001f600" * 63, "\u00e9" * 127]
    for name in names:
        root = Path(found.path).with_name(name)
        root.symlink_to(found.path)
        long = replace(found, name=name, path=str(root))
        with desk(tmp_path / "staged", "copy") as at:
            held = at.keep(long)
            assert intact(held, long)
            places.add(held.path)
        root.unlink()  # and the next start has it, though the trainer has deleted it
        with desk(tmp_path / "staged", "copy") as at:
            assert (name, found.digest) in at.stage.keys
            assert at.keep(long).path == held.path
    assert len(places) == len(names)


def test_a_directory_with_a_long_name_is_a_run(tmp_path: Path) -> None:
    """Files are named after it."""
    name = run_id(tmp_path / ("\u00e9" * 127))
    with exclusive(tmp_path, name):
        pass
    name = run_id(tmp_path / ("x" * 255))
    with exclusive(tmp_path, name):
        assert len(name) < 200


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_symlinks_a_checkpoint_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on exFAT, which is no place that a test can have everywhere."""

    def none(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "symlink", none)
    found = full(tmp_path / "output", 1)
    with desk(tmp_path / "staged", "auto") as at:
        held = at.keep(found)
        assert held.how in ("copy", "reflink")
        assert intact(held, found)
    with desk(tmp_path / "pins", "pin") as at:
        kind, reason = at.fail(found)
    assert kind == "stage"
    assert 'set "stage" to "auto" or "copy"' in reason
