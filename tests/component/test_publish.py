"""`clipwatch publish`: a run's results to a tracker, from the log."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from backfill import Watched, watch
from clipwatch.cli import main
from clipwatch.delivery import trackers
from clipwatch.domain.events import (
    NoLongerShown,
    PublishFailed,
)
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.service.lock import exclusive
from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.series import make_target
from clipwatch_adapters.wandb.files import finished_rows
from fake_wandb import FakeWandb
from real_world import environment
from tensorboard_kit import event_file
from wandb_world import isolate, serve


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a run of 100 results, which no tracker has."""
    monkeypatch.chdir(tmp_path)
    isolate(monkeypatch, tmp_path)
    return watch(tmp_path, 100)


def test_a_whole_history_goes_to_tensorboard(watched: Watched) -> None:
    """Each result once, in order; a second call sends nothing and writes nothing down."""
    said = watched.call("--to", "tensorboard")
    logs = watched.folder / "output/logs"
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == (
        f"tensorboard: 100 results are in {watched.board}; then tensorboard --logdir {logs}\n"
    )
    assert watched.shown() == [*range(100, 10_100, 100)]
    assert set(watched.published("tensorboard").values()) == {1}
    events, whole = len(watched.logged), event_file(watched.board).read_bytes()
    assert watched.call("--to", "tensorboard").stdout == said.stdout
    assert len(watched.logged) == events
    assert event_file(watched.board).read_bytes() == whole
    watched.score([50, 20_000])
    assert watched.call("--to", "tensorboard").exit_code == 0
    assert watched.shown() == [50, *range(100, 10_100, 100), 20_000]


def test_a_part_may_go(watched: Watched) -> None:
    """Only what was scored of a step and later ones; the rest with another call."""
    assert watched.call(watched.run[:3], "--to", "tensorboard", "--since", "9000").exit_code == 0
    assert watched.shown() == [*range(9000, 10_100, 100)]
    assert len(watched.published("tensorboard")) == 11
    assert watched.call("--to", "tensorboard").exit_code == 0
    assert watched.shown() == [*range(100, 10_100, 100)]
    said = watched.call("--to", "tensorboard", "--since", "99999")
    assert said.exit_code == 1
    assert "nothing is scored yet at step 99999 or later" in said.stderr


def test_it_may_be_written_anew(watched: Watched) -> None:
    """With --fresh, in a file of its own that holds what was asked for."""
    watched.call("--to", "tensorboard")
    before = event_file(watched.board)
    assert watched.call("--to", "tensorboard", "--since", "5000", "--fresh").exit_code == 0
    assert event_file(watched.board) != before
    assert watched.shown() == [*range(5000, 10_100, 100)]
    assert set(watched.published("tensorboard").values()) == {1}
    assert not any(isinstance(it.event, NoLongerShown) for it in watched.logged)
    assert watched.call("--to", "tensorboard").exit_code == 0
    assert watched.shown() == [*range(100, 10_100, 100)]


def test_it_needs_no_config(watched: Watched, tmp_path: Path) -> None:
    """What the log knows of the run's settings says where; one that is another run's is refused."""
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert watched.call("--to", "tensorboard", config=False).exit_code == 0
    assert len(watched.shown()) == 100
    text = (tmp_path / "other.json").read_text().replace('"output"', '"elsewhere"')
    (tmp_path / "config.json").write_text(text)
    for given in (True, False):  # named, or found here
        said = watched.call(watched.run, "--to", "tensorboard", config=given)
        assert (said.exit_code, said.stdout) == (2, "")
        assert f"is of {tmp_path / 'elsewhere'}, and not of {watched.run}" in said.stderr


def test_a_daemon_is_not_disturbed(watched: Watched) -> None:
    """One line that says who has the run, and what to do."""
    with exclusive(watched.state, watched.run):
        said = watched.call("--to", "tensorboard")
    assert said.exit_code == 1
    assert f"{watched.run} is already watched by clipwatch with pid" in said.stderr
    assert "where report_to names tensorboard; else stop it first" in said.stderr
    assert not watched.board.exists()


def test_wrong_calls_are_refused(watched: Watched, tmp_path: Path) -> None:
    """A tracker that is not known, a run that is not, a log that is not there."""
    known = "comet_ml, csv, jsonl, mlflow, swanlab, tensorboard, trackio, wandb"
    for arguments, code, told in (
        (("--to", "wanda"), 2, f"unknown tracker 'wanda'; known: {known}"),
        ((), 2, "Missing option '--to'"),
        (("other", "--to", "csv"), 1, "no run has a name that begins with 'other'"),
    ):
        said = watched.call(*arguments)
        assert (said.exit_code, said.stdout) == (code, "")
        assert told in said.stderr
    line = ["publish", "--to", "csv", "--state-dir", str(tmp_path / "none")]
    said = CliRunner().invoke(main, line)
    assert said.exit_code == 1
    assert "there is no log in" in said.stderr


class Weak(MemoryTracker):
    """Takes so many results, then fails once, or for good."""

    def __init__(self, folder: Path, error: Exception, *, once: bool) -> None:
        super().__init__(make_target(folder))
        self.error: Exception | None = error
        self._once = once

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Take those below 60."""
        super().publish(series, [seq for seq in missing if seq < 60])
        if max(missing) >= 60 and self.error:
            error, self.error = self.error, None if self._once else self.error
            raise error
        super().publish(series, missing)


@pytest.mark.parametrize(
    ("error", "once", "code", "told"),
    [
        (TrackerUnavailable("no answer"), True, 0, ""),
        (TrackerUnavailable("no answer"), False, 1, "no answer: call it again to go on\n"),
        (TrackerRefused("no permission", fix="ask"), False, 1, "no permission: ask\n"),
    ],
)
def test_what_fails_is_told(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    once: bool,
    code: int,
    told: str,
) -> None:
    """What may pass is tried again; else what came so far is there, and another call goes on."""
    weak = Weak(watched.folder, error, once=once)
    load: Callable[[str], object] = lambda _: lambda _: weak  # noqa: E731
    monkeypatch.setattr(trackers, "load", load)
    said = watched.call("--to", "weak")
    assert said.exit_code == code
    assert said.stderr == (f"Error: weak: {told}" if told else "")
    assert len(watched.published("weak")) == (100 if code == 0 else 48)
    failures = [it for it in watched.logged if isinstance(it.event, PublishFailed)]
    assert len(failures) == (3 if code and isinstance(error, TrackerUnavailable) else 1)
    weak.error = None
    assert watched.call("--to", "weak").exit_code == 0
    assert set(watched.published("weak").values()) == {1}
    assert len(weak.rows["clipwatch"]) == 100


def test_torch_is_not_imported(watched: Watched) -> None:
    """Nor what comes with it: it runs where there is no GPU."""
    told = f"['publish', '--to', 'jsonl', '--state-dir', {str(watched.state)!r}]"
    script = f"import sys; from clipwatch.cli import main; main({told}, standalone_mode=False); "
    script += "sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    env = environment()
    ended = subprocess.run([sys.executable, "-c", script], cwd=watched.folder, env=env, check=False)
    assert ended.returncode == 0


@pytest.mark.thorough
def test_offline_runs_are_written_anew(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of before are gone then: each result that was asked for is there once."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for since, more in ((8900, []), (9500, ["--fresh"])):
        assert watched.call("--to", "wandb", "--since", str(since), *more).exit_code == 0
        runs = [it for it in watched.state.rglob("offline-run-*") if it.is_dir()]
        rows = Counter(row["clipwatch/step"] for it in runs for row in finished_rows(it) or ())
        assert rows == dict.fromkeys(range(since, 10_100, 100), 1)


@pytest.mark.thorough
def test_a_server_gets_each_result_once(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Online, in two calls; what W&B has cannot be written anew, which is told in one line."""
    with serve(monkeypatch, tmp_path) as server:
        assert isinstance(server, FakeWandb)
        assert watched.call("--to", "wandb", "--since", "8000").exit_code == 0
        assert watched.call("--to", "wandb", "--since", "7000").exit_code == 0
        said = watched.call("--to", "wandb", "--fresh")
        steps = [step for _, step in server.run.points]
    assert sorted(steps) == [*range(7000, 10_100, 100)]
    assert said.exit_code == 1
    assert said.stderr.startswith("Error: wandb: W&B keeps the rows that it has: ")
