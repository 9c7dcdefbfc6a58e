"""File systems that give a file another number now and then, as sshfs, rclone and s3fs do.

A real FUSE mount, whose files change their inodes and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import staging_kit
from clipwatch.domain.sighting import Whole
from clipwatch.evaluator.generation.weights import verify
from clipwatch.layouts import Scanner
from loop_kit import until
from tracker_disks import mounted_by_a_server
from world import World, checkpoint


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Path]:
    """Return the folder behind the output directory, which is a mount."""
    folder, output = tmp_path / "behind", tmp_path / "output"
    folder.mkdir()
    output.mkdir()
    with mounted_by_a_server(folder, output):
        yield folder


def renumber(folder: Path) -> None:
    """Give each file another inode, leaving its name, content and times."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        twin = path.with_name(f"{path.name}.twin")
        shutil.copy2(path, twin)
        twin.rename(path)


def numbers(folder: Path) -> list[int]:
    """Return the inode of each file."""
    return [path.stat().st_ino for path in sorted(folder.rglob("*")) if path.is_file()]


def test_a_checkpoint_is_the_same_by_another_number(tmp_path: Path, behind: Path) -> None:
    """It is complete once, scored once, and published once."""
    output = tmp_path / "output"
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(behind, step, step)
    assert world.once() == 0
    before, known = numbers(output), world.logged
    renumber(behind)
    until(lambda: all(was != now for was, now in zip(before, numbers(output), strict=True)))
    assert world.once() == 0
    assert world.logged == known


def test_a_checkpoint_is_kept_and_loaded_by_another_number(tmp_path: Path, behind: Path) -> None:
    """Neither says that it was written again, which it is told of where it was."""
    output = tmp_path / "output"
    checkpoint(behind, 1)
    scanner = Scanner(output, weights="live", settle_seconds=0.0)
    (seen,) = scanner.scan()
    assert isinstance(seen.verdict, Whole)
    files = seen.verdict.weights.files
    assert [file.inode for file in files] == [0]
    renumber(behind)
    verify(seen.path, files)
    assert scanner.scan() == [seen]
    found = staging_kit.seen(seen.path)
    renumber(behind)
    with staging_kit.desk(tmp_path / "staged", "copy") as at:
        assert staging_kit.intact(at.keep(found), found)


def test_a_machine_to_which_the_disk_is_not_local_loads_what_another_found(
    tmp_path: Path, behind: Path
) -> None:
    """And the other way round: who knows no inode asks for none."""
    output = tmp_path / "output"
    checkpoint(behind, 1)
    for there, here in ((behind, output), (output, behind)):
        (found,) = Scanner(there, weights="live", settle_seconds=0.0).scan()
        assert isinstance(found.verdict, Whole)
        verify(here / found.name, found.verdict.weights.files)


def test_on_a_local_disk_another_number_is_another_file(tmp_path: Path) -> None:
    """There a file that was replaced by one of the same size and time is noticed."""
    checkpoint(tmp_path, 1)
    scanner = Scanner(tmp_path, weights="live", settle_seconds=0.0)
    (seen,) = scanner.scan()
    renumber(tmp_path)
    (again,) = scanner.scan()
    assert isinstance(seen.verdict, Whole)
    assert isinstance(again.verdict, Whole)
    assert seen.verdict.weights.files != again.verdict.weights.files
    assert seen.verdict.digest == again.verdict.digest
