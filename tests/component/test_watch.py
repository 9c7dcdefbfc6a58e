"""Hints from the file system, and on which file systems to expect any."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from clipwatch.kit.filesystems import file_system, make_private
from clipwatch.layouts.watch import Watcher
from clipwatch.service.wake import ring, wake_folder
from loop_kit import states, until
from world import World, checkpoint


@pytest.mark.parametrize(("path", "kind"), [("/proc/self", "proc"), ("/sys/kernel", "sysfs")])
def test_the_nearest_mount_tells_the_file_system(path: str, kind: str) -> None:
    """A path belongs to the mount nearest above it, whether it exists or not."""
    assert file_system(Path(path)) == kind
    assert file_system(Path(path) / "not there" / "at all") == kind


def test_mode_auto_polls_where_events_cannot_be_trusted(tmp_path: Path) -> None:
    """On a file system that is not known to report changes only our own folder is watched."""
    woken = threading.Event()
    make_private(wake_folder(tmp_path))
    watcher = Watcher(Path("/proc/self"), wake_folder(tmp_path), "auto", woken.set)
    try:
        assert not watcher.rearm([])
        assert list(watcher._watches) == [wake_folder(tmp_path)]
        ring(tmp_path)
        assert woken.wait(30)
        assert not list(wake_folder(tmp_path).iterdir())
    finally:
        watcher.close()


def test_a_symlinked_root_and_a_pending_folder_give_hints(tmp_path: Path) -> None:
    """The link's target is watched, and the unfinished checkpoints inside it."""
    (tmp_path / "real" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    hinted = threading.Event()
    watcher = Watcher(tmp_path / "link", tmp_path / "wake", "events", hinted.set)
    try:
        assert watcher.rearm([tmp_path / "link" / "checkpoint-1"])
        (tmp_path / "real" / "checkpoint-2").mkdir()
        assert hinted.wait(30)
        hinted.clear()
        (tmp_path / "real" / "checkpoint-1" / ".guard").touch()
        assert hinted.wait(30)
    finally:
        watcher.close()


def test_a_directory_made_anew_is_watched_anew(tmp_path: Path) -> None:
    """After deletion there is nothing to watch; at the next look the new directory is watched."""
    output = tmp_path / "output"
    output.mkdir()
    hinted = threading.Event()
    watcher = Watcher(output, tmp_path / "wake", "events", hinted.set)
    try:
        assert watcher.rearm([])
        output.rmdir()
        assert hinted.wait(30)
        assert not watcher.rearm([])
        output.mkdir()
        assert watcher.rearm([])
        hinted.clear()
        (output / "checkpoint-1").mkdir()
        assert hinted.wait(30)
    finally:
        watcher.close()


def test_a_system_without_a_thread_to_spare_is_looked_at_by_rescans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a container may have so many processes: no error, and events once there is one."""
    wake = wake_folder(tmp_path)
    make_private(wake)
    watcher = Watcher(tmp_path, wake, "events", lambda: None)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert not watcher.rearm(())
    assert watcher.rearm(())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        (tmp_path / "checkpoint-1").mkdir()
        assert watcher.rearm([tmp_path / "checkpoint-1"])
    watcher.close()


def test_many_unfinished_checkpoints_take_few_threads(tmp_path: Path) -> None:
    """Folders that a broken trainer leaves by the hundred are found by rescans."""
    world = World(tmp_path)
    for step in range(1, 200):
        (world.output / f"checkpoint-{step}").mkdir()
    before = threading.active_count()
    with world.live():
        until(lambda: len(states(world)) == 199)
        checkpoint(world.output, 200)
        until(lambda: states(world).get(200) == "published")
        assert threading.active_count() < before + 60
