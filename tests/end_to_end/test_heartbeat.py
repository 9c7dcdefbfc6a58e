"""`clipwatch health` and `clipwatch notify`, beside real daemons and without one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipwatch.kit.filesystems import make_private
from clipwatch.service.heartbeat import STALE_SECONDS, HeartbeatFile, heartbeats
from clipwatch.service.wake import wake_folder
from places import ROOT
from real_world import clipwatch, daemon, open_to_others, until, write_config
from world import checkpoint


def health(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the probe."""
    return clipwatch("health", "--state-dir", "state", *arguments, cwd=folder)


@contextmanager
def watching(folder: Path, **own: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start a daemon and wait until it watches."""
    write_config(folder, **own)
    with daemon(folder) as process:
        until(lambda: "no checkpoint there yet" in (folder / "said").read_text())
        until(lambda: bool(heartbeats(folder / "state")))
        yield process


def test_a_daemons_life_is_told(folder: Path) -> None:
    """Nothing before, alive while it runs, nothing after; only its user can read it."""
    assert health(folder).returncode == 1
    with watching(folder) as process:
        ended = health(folder)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ": alive; no checkpoint seen in " in ended.stdout
        assert health(folder, "--run", "another").returncode == 1
        assert open_to_others(folder / "state") == []
        process.terminate()
        assert process.wait(60) == 0
    ended = health(folder)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("no clipwatch runs with ")


def test_a_killed_daemon_is_gone_at_once(folder: Path) -> None:
    """Its heartbeat is left behind, but not its process."""
    with watching(folder) as process:
        process.kill()
        process.wait()
        ended = health(folder)
        assert ended.returncode == 1
        assert f"its process {process.pid} is gone" in ended.stderr


def test_a_loop_that_stands_still_is_told(folder: Path) -> None:
    """After two minutes without a turn; one daemon that hangs makes the whole answer a 1."""
    with watching(folder):
        (own,) = heartbeats(folder / "state")
        hanging = HeartbeatFile(folder / "state", "hanging", folder)
        hanging.beat("3 checkpoints")
        assert health(folder).returncode == 0
        then = time.time() - STALE_SECONDS - 5
        os.utime(folder / "state" / "hanging.alive", (then, then))
        ended = health(folder)
        assert ended.returncode == 1
        stood = re.search(r"hanging: its loop has stood still for (\d+) s", ended.stderr)
        assert stood
        assert int(stood[1]) > STALE_SECONDS
        assert f"{own.heartbeat.run}: alive" in ended.stdout
        assert health(folder, "--run", own.heartbeat.run).returncode == 0


def test_a_heart_beats_without_a_change(tmp_path: Path) -> None:
    """The file's age is the time since the last turn, whether there was news or not."""
    heart = HeartbeatFile(tmp_path, "run", tmp_path)
    heart.beat("the same")
    os.utime(tmp_path / "run.alive", (0, 0))
    heart._touched = float("-inf")  # as if some seconds had passed
    heart.beat("the same")
    (sign,) = heartbeats(tmp_path)
    assert sign.age < 60
    assert sign.heartbeat.status == "the same"
    heart.beat("the same", "checkpoint-5: loading")
    (sign,) = heartbeats(tmp_path)
    assert sign.heartbeat.doing == "checkpoint-5: loading"
    assert 0 <= time.time() - sign.heartbeat.since < 3600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": "x"}', "\xff"])
def test_a_heartbeat_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    """Somebody else's file, or one from another version, is no daemon and no traceback."""
    (tmp_path / "x.alive").write_text(content, encoding="latin-1")
    assert heartbeats(tmp_path) == []


def test_a_heartbeat_needs_no_disk(tmp_path: Path) -> None:
    """A state directory that is gone is no reason for the loop to end."""
    heart = HeartbeatFile(tmp_path / "gone", "run", tmp_path)
    heart.beat("alive")
    heart.stop()
    assert not (tmp_path / "gone").exists()


def test_a_hook_wakes_the_daemon(folder: Path) -> None:
    """A daemon that would not look for an hour finds the checkpoint at once."""
    with watching(folder, watch="poll", rescan_seconds=3600):
        path = checkpoint(folder / "output", 500)
        ended = clipwatch("notify", "--step", "500", path, "--state-dir", "state", cwd=folder)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("step 500: told output-")
        until(lambda: "checkpoint-500" in (folder / "said").read_text())


def test_a_hook_never_fails_the_training(tmp_path: Path) -> None:
    """Without a daemon, and beside one of another training: 0, and one line that says so."""
    ended = clipwatch("notify", tmp_path / "checkpoint-1", "--state-dir", "state", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "checkpoint-1: nobody to tell in state: No such file or directory\n"
    make_private(wake_folder(tmp_path / "state"))
    HeartbeatFile(tmp_path / "state", "run", Path("/elsewhere")).beat("alive")
    ended = clipwatch("notify", tmp_path / "checkpoint-1", "--state-dir", "state", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "checkpoint-1: state is told, where /elsewhere is watched\n"
    assert not list(wake_folder(tmp_path / "state").iterdir())


def test_a_linked_output_directory_is_the_same(tmp_path: Path) -> None:
    """The trainer may name it by another way than the daemon's settings do."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make_private(wake_folder(tmp_path / "state"))
    HeartbeatFile(tmp_path / "state", "run", tmp_path / "link").beat("alive")
    path = tmp_path / "real" / "checkpoint-7"
    ended = clipwatch("notify", path, "--state-dir", "state", cwd=tmp_path)
    assert ended.stdout == "checkpoint-7: told run\n"


@pytest.mark.parametrize("key", ["post_checkpoint_script", "validation_external_script"])
def test_the_documented_hooks_of_simpletuner_work(folder: Path, key: str) -> None:
    """The manual's line, run as SimpleTuner does: formatted, split like a shell's, without one."""
    manual = (ROOT / "docs" / "trainers.md").read_text()
    found = re.search(rf'"{key}": "(.*)"', manual)
    assert found
    spaced = found[1].format(global_step=1, local_checkpoint_path="my runs/checkpoint-1")
    assert shlex.split(spaced)[-1] == "my runs/checkpoint-1"
    with watching(folder, watch="poll", rescan_seconds=3600):
        path = checkpoint(folder / "output", 500)
        line = found[1].format(global_step=500, local_checkpoint_path="output/checkpoint-500")
        program = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {**os.environ, "PATH": program, "CLIPWATCH_STATE_DIR": str(folder / "state")}
        hook = shlex.split(os.path.expandvars(line))
        ended = subprocess.run(hook, cwd=folder, env=environ, capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert ended.stdout.startswith(b"step 500: told output-")
        until(lambda: path.name in (folder / "said").read_text())
