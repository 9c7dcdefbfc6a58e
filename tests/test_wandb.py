"""The W&B adapter with the real package, against a server on loopback."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.errors import TrackerRefused, TrackerUnavailable
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb_session import METRICS
from fake_wandb import KEY, FakeWandb, Fault
from tracker_contract import Connect, TrackerContract
from tracker_world import make_protocol, make_series, make_target
from wandb_world import isolate, train


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeWandb]:
    """Run a server, with its address and key in the environment."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    with FakeWandb() as fake:
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield fake


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Collect the processes that the adapter starts."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def snapshot(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


class TestOnline(TrackerContract):
    """The contract against a server."""

    @pytest.fixture(autouse=True)
    def _server(self, server: FakeWandb) -> None:
        self.server = server

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: WandbTracker(target)

    def test_publishing_again_is_harmless(self, connect: Connect, tmp_path: Path) -> None:
        """What the server shows is not sent again, and the run is not even touched."""
        series = make_series(tmp_path, [100, 200])
        connect().publish(series, [0, 1])
        self.server.requests.clear()
        connect().publish(series, [0, 1])
        assert self.server.run.points == [(0, 100), (1, 200)]
        assert not {"UpsertBucket", "history", "file_stream"} & set(self.server.requests)

    def test_series_do_not_mix(self, connect: Connect, tmp_path: Path) -> None:
        """Two protocols are two runs; an earlier result that a run still lacks goes along."""
        one = make_series(tmp_path, [100, 200])
        protocol = make_protocol(seed=1)
        other = make_series(tmp_path, [100, 200], name="clipwatch-other", protocol=protocol)
        tracker = connect()
        tracker.publish(one, [0])
        assert tracker.published(other) == frozenset()
        tracker.publish(other, [1])
        assert tracker.published(one) == {0}
        assert tracker.published(other) == {0, 1}
        assert tracker.where(one) != tracker.where(other)


def test_a_row_says_it_all(server: FakeWandb, tmp_path: Path) -> None:
    """A row has the numbers, what they are of, captioned images and a table; late steps stay."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1, 2])
    run = server.run
    assert run.points == [(0, 100), (1, 300), (2, 200)]
    assert (run.name, run.group, run.job_type) == ("run / clipwatch", "run", "eval")
    assert run.id.startswith("cw-")
    assert tracker.where(series) == f"{server.url}/team/project/runs/{run.id}"
    assert tracker.hint(series) == ""
    row, result = run.rows[1], series.results[1]
    shown = [row[f"clip/{name}"] for name in ("mean", "min", "max", "std", "images")]
    clip = result.clip
    assert shown == [clip.mean, clip.min, clip.max, clip.std, 4]
    assert row["clipwatch/checkpoint"] == "checkpoint-300"
    assert row["clipwatch/evaluation"] == result.evaluation
    assert row["clipwatch/samples"]["captions"][0] == "0.2100 a red cube on a table"
    assert run.files.keys() >= set(row["clipwatch/samples"]["filenames"])
    table = json.loads(run.files[row["clipwatch/scores"]["path"]])
    assert table["columns"] == ["prompt id", "category", "prompt", "score 0"]
    assert table["data"][0] == ["red-cube", "objects", "a red cube on a table", 0.21]
    assert run.config["protocol"]["value"] == series.protocol.digest
    assert run.config["prompts"]["value"] == 4
    metrics = run.config["_wandb"]["value"]["m"]  # "1" is a name, "5" the place of its x axis
    axes = {metric["1"]: metrics[metric["5"] - 1]["1"] for metric in metrics if "5" in metric}
    assert axes == dict.fromkeys(METRICS, "clipwatch/step")


def test_a_new_log_is_a_new_run(server: FakeWandb, tmp_path: Path) -> None:
    """Results of a log that was begun anew do not hide behind those of the lost one."""
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(make_series(tmp_path, [100]), [0])
    series = make_series(tmp_path, [100])
    anew = replace(series, results=(replace(series.results[0], evaluation="anew"),))
    assert tracker.published(anew) == frozenset()
    assert len(server.runs) == 1


def test_the_trainer_is_found_and_left_alone(server: FakeWandb, tmp_path: Path) -> None:
    """The group is the trainer's run id, for good, and its files stay as they are."""
    train(tmp_path, "project")
    before = snapshot(tmp_path / "wandb")
    series = make_series(tmp_path, [100, 200])
    target = make_target(tmp_path)
    WandbTracker(target).publish(series, [0])
    assert snapshot(tmp_path / "wandb") == before
    assert server.run.group == "trainer-project"
    train(tmp_path, "other")
    WandbTracker(target).publish(series, [1])
    assert server.run.points == [(0, 100), (1, 200)]
    assert server.requests.count("RunResumeStatus") == 2


@pytest.mark.parametrize(
    ("request_name", "lost"),
    [
        ("UpsertBucket", False),
        ("history", False),
        ("history", True),
        ("storage", False),
        ("RunHistoryKeys", False),
    ],
)
def test_a_kill_loses_and_repeats_nothing(
    server: FakeWandb,
    tmp_path: Path,
    children: list[subprocess.Popen[bytes]],
    request_name: str,
    lost: bool,
) -> None:
    """Killed before, during or after sending, the next attempt completes the rows exactly."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))

    def kill() -> None:
        os.kill(children[-1].pid, signal.SIGKILL)

    server.faults.append(Fault(request_name, 503, 1, lost, kill))
    with pytest.raises(TrackerUnavailable, match="no answer"):
        tracker.publish(series, [0, 1, 2])
    tracker.publish(series, [0, 1, 2])
    assert server.run.points == [(0, 100), (1, 300), (2, 200)]


@pytest.mark.parametrize(
    ("request_name", "status", "error", "words"),
    [
        ("*", 401, TrackerRefused, "API key"),
        ("UpsertBucket", 403, TrackerRefused, "what the API key may do"),
        ("*", 404, TrackerRefused, "API key|base_url"),
        ("*", 500, TrackerUnavailable, "does not answer"),
        ("RunResumeStatus", 500, TrackerUnavailable, "does not answer"),
        ("*", 0, TrackerUnavailable, "does not answer"),
        ("history", 404, TrackerUnavailable, "shows 0 of 1 results"),
        ("history", 0, TrackerUnavailable, "shows 0 of 1 results"),
    ],
)
def test_a_fault_is_told_in_time(
    server: FakeWandb,
    tmp_path: Path,
    request_name: str,
    status: int,
    error: type[Exception],
    words: str,
) -> None:
    """A server that refuses, fails, hangs or loses rows is told so in one line, within bounds."""
    server.faults.append(Fault(request_name, status))
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 5
    began = time.monotonic()
    with pytest.raises(error, match=words) as told:
        tracker.publish(make_series(tmp_path, [100]), [0])
    assert time.monotonic() - began < 20
    assert "\n" not in str(told.value)


def test_nobody_listens(server: FakeWandb, tmp_path: Path) -> None:
    """A refused connection may pass."""
    server.stop()
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 12
    with pytest.raises(TrackerUnavailable, match="does not answer"):
        tracker.published(make_series(tmp_path, [100]))


def test_a_hanging_session_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[subprocess.Popen[bytes]]
) -> None:
    """A child that never answers is gone at the deadline, and nothing else waits for it."""
    (tmp_path / "wandb.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("clipwatch_adapters.wandb.GRACE", 1)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 1
    with pytest.raises(TrackerUnavailable, match="no answer"):
        tracker.publish(make_series(tmp_path, [100]), [0])
    assert children[-1].returncode == -signal.SIGKILL


def test_sessions_do_not_overlap(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a session of a killed daemon still lives, nothing is sent beside it."""
    monkeypatch.setattr("clipwatch_adapters.wandb.GRACE", 0.2)
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


def test_a_file_in_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder can be made, somebody must mend it."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "state").write_text("")
    with pytest.raises(TrackerRefused, match="state"):
        WandbTracker(make_target(tmp_path)).publish(make_series(tmp_path, [100]), [0])


def test_media_are_secondary(server: FakeWandb, tmp_path: Path) -> None:
    """A row is published though the server takes no files."""
    server.faults += [Fault("storage", 0), Fault("ArtifactType", 404)]
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 8
    tracker.publish(make_series(tmp_path, [100]), [0])
    assert server.run.points == [(0, 100)]


def test_the_key_is_told_to_nobody(
    server: FakeWandb, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    """A key stands neither in arguments nor in files nor in errors, used or rejected."""
    wrong = "f" * 40
    target = replace(make_target(tmp_path), options={"api_key": wrong})
    series = make_series(tmp_path, [100])
    with pytest.raises(TrackerRefused, match="wandb login") as told:
        WandbTracker(target).publish(series, [0])
    WandbTracker(make_target(tmp_path)).publish(series, [0])
    server.faults.append(Fault("history", 404))
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = 3
    with pytest.raises(TrackerUnavailable):
        tracker.publish(make_series(tmp_path, [100, 200]), [1])
    arguments = repr([child.args for child in children])
    files = [path for path in target.state_dir.rglob("*") if path.is_file()]
    assert "debug-internal.log" in {path.name for path in files}
    for key in (wrong, KEY):
        assert key not in f"{told.value} {arguments}"
        assert not any(key.encode() in path.read_bytes() for path in files)


def test_without_a_key_it_says_what_to_do(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is a refusal at once; one in the netrc file, where `wandb login` puts it, will do."""
    monkeypatch.delenv("WANDB_API_KEY")
    tracker = WandbTracker(make_target(tmp_path))
    with pytest.raises(TrackerRefused, match=r"wandb login.*WANDB_MODE=offline"):
        tracker.published(make_series(tmp_path, [100]))
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {server.url.partition('//')[2]} login user password {KEY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert tracker.published(make_series(tmp_path, [100])) == frozenset()


def test_a_missing_package_is_named(
    server: FakeWandb,  # noqa: ARG001 - would be asked
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without W&B's package the user is told how to get it."""
    (tmp_path / "wandb.py").write_text("raise ImportError('No module named wandb')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(TrackerRefused, match="pip install wandb"):
        WandbTracker(make_target(tmp_path)).published(make_series(tmp_path, [100]))


def test_a_hostile_environment_changes_nothing(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trainer leaves in the environment does not turn rows into its own run."""
    for name, value in {
        "WANDB_MODE": "disabled",
        "WANDB_DISABLED": "true",
        "WANDB_RUN_ID": "trainer",
        "WANDB_RESUME": "must",
        "WANDB_NAME": "trainer",
        "WANDB_RUN_GROUP": "trainer",
        "WANDB_PROJECT": "trainer",
        "WANDB_DIR": str(tmp_path / "trainer"),
        "WANDB_SERVICE": "3-1-unix-/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    series = make_series(tmp_path, [100])
    with pytest.raises(TrackerRefused, match="disabled"):
        WandbTracker(make_target(tmp_path)).publish(series, [0])
    assert WandbTracker(make_target(tmp_path)).hint(series) == ""
    WandbTracker(replace(make_target(tmp_path), options={"mode": "online"})).publish(series, [0])
    run = server.run
    assert (run.project, run.group, run.points) == ("project", "run", [(0, 100)])
    assert not (tmp_path / "trainer").exists()
