"""The W&B adapter's processes and files: none outlives its daemon, none tells a secret."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.shared.child import GRACE
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.wandb import WandbTracker
from fake_wandb import HANG, KEY, FakeWandb, Fault
from places import python_path
from wandb_world import collect_children, isolate, processes

DAEMON = """
import sys
from pathlib import Path
from clipwatch_adapters.wandb import WandbTracker
from clipwatch.testing.series import make_series, make_target
folder = Path(sys.argv[1])
tracker = WandbTracker(make_target(folder))
tracker.patience = 1000
tracker.publish(make_series(folder, [100, 200], images=False), [0, 1])
"""
PATIENCE = 60
"""Seconds until processes must have ended; by itself a session would go on for minutes."""


def daemon(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that publishes two results, as the daemon does."""
    env = {**os.environ, "PYTHONPATH": python_path()}
    return subprocess.Popen([sys.executable, "-c", DAEMON, str(folder)], env=env)


def ended(home: str) -> bool:
    """Wait until no process lives with this HOME."""
    end = time.monotonic() + PATIENCE
    while processes(home) and time.monotonic() < end:
        time.sleep(0.05)
    return not processes(home)


@pytest.mark.parametrize("stage", ["Run", "UpsertBucket", "history", "RunHistoryKeys"])
@pytest.mark.thorough
def test_nothing_outlives_a_killed_daemon(server: FakeWandb, tmp_path: Path, stage: str) -> None:
    """Killed at any stage, the daemon takes its session and wandb-core along, and none is lost.

    The server hangs, and by themselves both would wait for it.
    """
    reached = threading.Event()
    server.faults.append(Fault(stage, HANG, then=reached.set))
    with daemon(tmp_path) as killed:
        assert reached.wait(PATIENCE)
        assert len(processes(os.environ["HOME"])) == 3
        killed.kill()
    assert ended(os.environ["HOME"])
    server.faults.clear()
    with daemon(tmp_path) as again:
        assert again.wait(PATIENCE) == 0
    assert server.run.points == [(100, 100), (200, 200)]


def test_a_hanging_session_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that never answers is gone at the deadline, and nothing else waits for it."""
    isolate(monkeypatch, tmp_path)
    children = collect_children(monkeypatch)
    (tmp_path / "wandb.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("clipwatch_adapters.shared.child.GRACE", 1)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 1
    with pytest.raises(TrackerUnavailable, match="no answer"):
        tracker.publish(make_series(tmp_path, [100]), [0])
    assert children[-1].returncode == -signal.SIGKILL


@pytest.mark.thorough
def test_a_session_ends_without_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that hangs ends by itself where nobody is left to kill it."""
    (tmp_path / "wandb.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("clipwatch_adapters.shared.child.GRACE", 6 * GRACE)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    children = collect_children(monkeypatch)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 1
    with pytest.raises(TrackerUnavailable, match="no answer"):
        tracker.publish(make_series(tmp_path, [100]), [0])
    assert children[-1].returncode == -signal.SIGALRM


def test_sessions_do_not_overlap(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a session of a killed daemon still lives, nothing is sent beside it."""
    monkeypatch.setattr("clipwatch_adapters.shared.child.GRACE", 0.2)
    target = make_target(tmp_path)
    target.state_dir.mkdir(parents=True)
    with (target.state_dir / "session.log").open("ab") as log:
        code = "import signal; signal.pause()"
        with subprocess.Popen([sys.executable, "-c", code], stderr=log) as orphan:
            fcntl.flock(log, fcntl.LOCK_EX)
            log.close()
            with pytest.raises(TrackerUnavailable, match="earlier"):
                WandbTracker(target).publish(make_series(tmp_path, [100]), [0])
            orphan.kill()
    assert server.requests == []


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """Let new files be readable for everybody, as most systems do."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of all files and folders, by their names below `folder`."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # a session goes on meanwhile
            found[str(path.relative_to(folder))] = path.lstat()
    return {
        name: stat.S_IMODE(is_.st_mode)
        for name, is_ in found.items()
        if not stat.S_ISLNK(is_.st_mode)
    }


@pytest.mark.thorough
@pytest.mark.usefixtures("usual_umask")
def test_our_files_are_private(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What W&B keeps in our state folder is for us alone, amid a session and offline."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100])
    seen: dict[str, int] = {}
    server.faults.append(
        Fault("history", 503, 1, then=lambda: seen.update(modes(target.state_dir)))
    )
    WandbTracker(target).publish(series, [0])
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandbTracker(target).publish(series, [0])
    seen |= modes(target.state_dir)
    kinds = {Path(name).suffix for name in seen}
    assert {".wandb", ".log", ".jpg", ".json"} <= kinds
    assert [name for name, mode in seen.items() if mode & 0o077] == []


@pytest.mark.thorough
@pytest.mark.usefixtures("usual_umask")
def test_tensorboards_files_are_for_all(server: FakeWandb, tmp_path: Path) -> None:
    """Another user's TensorBoard can read our event files, also after a session with W&B."""
    target = make_target(tmp_path)
    (target.logging_dir / target.project).mkdir(parents=True)
    series = make_series(tmp_path, [100])
    WandbTracker(target).publish(series, [0])
    assert server.run.points == [(100, 100)]
    TensorBoardTracker(target).publish(series, [0])
    where = Path(TensorBoardTracker(target).where(series))
    assert sorted(modes(where).values()) == [0o644, 0o755]


def offenders(secrets: tuple[str, ...], folders: list[Path]) -> list[Path]:
    """Return the files below the folders that hold one of the secrets."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):  # a session goes on meanwhile
            data = path.read_bytes()
            found += [path] if any(key.encode() in data for key in secrets) else []
    return found


def test_the_key_is_told_to_nobody(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key stands in no file, error, argument or environment, whether it is taken or rejected."""
    home, temporary, wrong = Path(os.environ["HOME"]), Path(tempfile.gettempdir()), "f" * 40
    monkeypatch.delenv("WANDB_API_KEY")
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200])
    seen: dict[str, bytes] = {}
    found: list[Path] = []
    looked: list[Path] = []

    def look() -> None:
        for folder in processes(str(home)).values():
            for name in ("cmdline", "environ", "comm"):
                seen[f"{folder.name}/{name}"] = (folder / name).read_bytes()
        folders = [target.state_dir, home, temporary]
        found.extend(offenders((KEY, wrong), folders))
        looked.extend(name for folder in folders for name in folder.rglob("*"))

    server.faults.append(Fault("history", 500, then=look))
    texts = []
    for key in (KEY, wrong):
        tracker = WandbTracker(replace(target, options={"api_key": key}))
        tracker.patience = 6
        with pytest.raises((TrackerUnavailable, TrackerRefused)) as told:
            tracker.publish(series, [0, 1])
        texts.append(str(told.value))
    look()
    assert {"debug-internal.log", "session.log"} <= {path.name for path in looked}
    assert any(temporary in path.parents for path in looked)
    assert "does not accept the API key" in texts[1]
    assert any(b"wandb-core" in line for line in seen.values())
    assert any(b"clipwatch_adapters.wandb" in line for line in seen.values())
    assert not any(key in text for key in (KEY, wrong) for text in texts)
    assert not any(key.encode() in line for key in (KEY, wrong) for line in seen.values())
    assert found == []


@pytest.mark.thorough
def test_a_login_in_the_servers_address_is_told_to_nobody(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No address of a run, text of an error or file has the password of a proxy in it."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url.replace("://", "://joe:hunter2@"))
    target = make_target(tmp_path)
    tracker = WandbTracker(target)
    series = make_series(tmp_path, [100])
    tracker.publish(series, [0])
    assert tracker.where(series).startswith(server.url)
    assert (target.state_dir / "session.log").read_bytes()
    assert offenders(("hunter2",), [target.state_dir]) == []
    server.faults.append(Fault("*", 401))
    with pytest.raises(TrackerRefused, match="does not accept the API key") as told:
        tracker.publish(series, [0])
    assert "hunter2" not in str(told.value)
