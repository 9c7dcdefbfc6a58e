"""A checkpoint that is deleted or written again before, while and after it is kept."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipwatch.domain.kinds import StageMode
from clipwatch.layouts.files import content_digest
from clipwatch.staging import copying, keep
from staging_kit import before_chunks, descriptors, desk, full, intact, seen, trainer

LOCAL_WAYS = ["pin", "copy"]


@pytest.mark.parametrize("mode", ["auto", *LOCAL_WAYS])
def test_deleted_before(tmp_path: Path, mode: StageMode) -> None:
    """What is gone has vanished, with its folder or without its weights."""
    checkpoint = full(tmp_path, 10)
    with desk(tmp_path / "staged", mode) as at:
        shutil.rmtree(Path(checkpoint.path) / "unet")
        assert at.fail(checkpoint)[0] == "vanished"
        at.stage.want([])
        shutil.rmtree(checkpoint.path)
        assert at.fail(checkpoint)[0] == "vanished"
    assert at.left == []


@contextmanager
def after_first_file(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]
) -> Iterator[None]:
    """Have `action` called when the second file is about to be kept."""
    calls: list[str] = []
    make_folders = copying.make_folders

    def called(folder: Path, name: str) -> None:
        calls.append(name)
        if len(calls) == 2:
            action()
        make_folders(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(copying, "make_folders", called)
        patch.setattr(keep, "make_folders", called)
        yield
    assert len(calls) >= 2


@pytest.mark.parametrize("mode", LOCAL_WAYS)
def test_deleted_between_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: StageMode
) -> None:
    """The first of three files is kept already when all are deleted: vanished, and all let go."""
    checkpoint = full(tmp_path, 10, shards=3)
    with (
        desk(tmp_path / "staged", mode) as at,
        after_first_file(monkeypatch, lambda: shutil.rmtree(checkpoint.path)),
    ):
        assert at.fail(checkpoint)[0] == "vanished"
        assert at.left == []
        assert descriptors(below=tmp_path) == []


@pytest.mark.parametrize("mode", LOCAL_WAYS)
@pytest.mark.parametrize("how", ["in place", "by rename"])
def test_written_again_between_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: StageMode, how: str
) -> None:
    """Whether in another inode, if of the same size and time, or in the same: changed, let go."""
    checkpoint = full(tmp_path, 10, shards=3)
    last = Path(checkpoint.path) / checkpoint.files[-1].path

    def write_again() -> None:
        content = last.read_bytes()
        if how == "in place":
            last.write_bytes(content)
        else:
            last.with_suffix(".tmp").write_bytes(content)
            os.utime(last.with_suffix(".tmp"), ns=(0, checkpoint.files[-1].mtime_ns))
            last.with_suffix(".tmp").rename(last)

    with desk(tmp_path / "staged", mode) as at, after_first_file(monkeypatch, write_again):
        assert at.fail(checkpoint)[0] == "changed"
        assert at.left == []
        at.stage.want([])
        assert intact(at.keep(seen(Path(checkpoint.path))), checkpoint)


def test_written_again_in_the_middle_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the old file and half of the new one are never held, even if the digest is the same.

    It takes samples of a file of 8 MiB, and here only a byte between two of them is another.
    """
    checkpoint = full(tmp_path, 10, kilobytes=8 * 1024)
    original = Path(checkpoint.path) / checkpoint.files[0].path

    def write_again(offset: int) -> None:
        if offset == copying.CHUNK:
            with original.open("r+b") as file:
                file.seek(100_000)
                file.write(b"x")

    monkeypatch.setattr(copying, "_move", before_chunks(write_again))
    with desk(tmp_path / "staged", "copy") as at:
        assert at.fail(checkpoint)[0] == "changed"
        assert at.left == []
    assert content_digest(Path(checkpoint.path), checkpoint.files) == checkpoint.digest


@pytest.mark.parametrize("mode", LOCAL_WAYS)
def test_a_fifo_in_the_place_of_a_file_stops_nobody(tmp_path: Path, mode: StageMode) -> None:
    """Opening it would wait for a writer for ever."""
    checkpoint = full(tmp_path, 10)
    original = Path(checkpoint.path) / checkpoint.files[0].path
    original.unlink()
    os.mkfifo(original)
    with desk(tmp_path / "staged", mode) as at:
        assert at.fail(checkpoint)[0] == "changed"
    assert at.left == []


def test_a_change_that_does_not_show_in_the_identity_shows_in_the_content(tmp_path: Path) -> None:
    """Same size, time and inode, other weights: the digest of the copy tells."""
    checkpoint = full(tmp_path, 10)
    original = Path(checkpoint.path) / checkpoint.files[0].path
    with original.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    os.utime(original, ns=(0, checkpoint.files[0].mtime_ns))
    with desk(tmp_path / "staged", "copy") as at:
        assert at.fail(checkpoint)[0] == "changed"
    assert at.left == []


@pytest.mark.parametrize("mode", LOCAL_WAYS)
def test_deleted_at_any_moment(tmp_path: Path, mode: StageMode) -> None:
    """Thirty times a trainer deletes at a random moment: it can, and all that is held is whole."""
    moments = random.Random(mode)
    with trainer() as other, desk(tmp_path / "staged", mode) as at:
        for step in range(30):
            checkpoint = full(tmp_path, step, shards=4, kilobytes=256)
            other.delete(checkpoint.path, after=moments.uniform(0.0, 0.01))
            at.stage.want([checkpoint])
            over = at.hears()
            assert other.outcome() == "deleted"
            held = at.stage.held(checkpoint)
            assert over.kind in {None, "vanished"}
            assert (held is None) == (over.kind == "vanished")
            assert held is None or intact(held, checkpoint)


def test_what_may_not_be_read_says_what_to_do() -> None:
    """Mode 0600 and another owner, as safetensors has it: one line names the user to run as."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        checkpoint = full(root / "output", 10)
        weights = Path(checkpoint.path) / checkpoint.files[0].path
        root.chmod(0o777)
        weights.chmod(0o600 if os.geteuid() == 0 else 0o000)
        with somebody_else(), desk(root / "staged", "copy") as at:
            kind, problem = at.fail(checkpoint)
            assert at.left == []
    assert kind == "unreadable"
    assert f"{weights} cannot be read" in problem
    assert "run clipwatch as" in problem


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be nobody for a while, if we are root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
