"""`clipwatch publish`: a run's results to a tracker, from the log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clipwatch.cli import main
from clipwatch.delivery import trackers
from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    NoLongerShown,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
)
from clipwatch.domain.names import evaluation_stream, run_id
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.service.lock import exclusive
from clipwatch.statistics import summarize
from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.series import make_target
from clipwatch_adapters.tensorboard import _read
from clipwatch_adapters.wandb.files import finished_rows
from fake_wandb import FakeWandb
from real_world import command, environment
from tensorboard_kit import event_file
from wandb_world import isolate, serve
from world import settings


@dataclass(frozen=True)
class Watched:
    """A run that was watched, with its config beside it."""

    folder: Path
    run: str
    protocol: EvaluationProtocol

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state"

    @property
    def board(self) -> Path:
        """The run in the trainer's TensorBoard folder."""
        return self.folder / "output/logs/simpletuner/clipwatch"

    def score(self, steps: Sequence[int]) -> None:
        """Write results into the log; the scores tell the step."""
        with Journal(log_file(self.state)) as journal:
            for step in steps:
                made = self.protocol.digest
                found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest=f"{step:08}")
                id_ = evaluation_id(found, made)
                images = [
                    ImageScore(prompt.id, index, seed, {"": step / 1e5})
                    for prompt, index, seed in self.protocol.images()
                ]
                journal.append(
                    self.run,
                    evaluation_stream(self.run, id_),
                    0,
                    [
                        EvaluationStarted(id_, found.name, step, found.digest, made, {}),
                        ImagesScored(id_, tuple(images)),
                        EvaluationCompleted(id_, {"": summarize([it.score for it in images])}),
                    ],
                )

    def call(self, *arguments: str, config: bool = True) -> Result:
        """Call the command."""
        given = ["--config", str(self.folder / "config.json")] if config else []
        line = ["publish", *arguments, *given, "--state-dir", str(self.state)]
        return CliRunner().invoke(main, line)

    def shown(self) -> list[int]:
        """Return the steps that TensorBoard's file has, in its order."""
        held, whole = _read(event_file(self.board))
        assert whole
        return [each.receipt.step for each in held]

    @property
    def logged(self) -> list[Recorded]:
        """The whole log."""
        with Journal(log_file(self.state), read_only=True) as journal:
            return list(journal.read())

    def published(self, tracker: str) -> Counter[str]:
        """Return how often each evaluation was written down as published for the first time."""
        told = (it.event for it in self.logged)
        return Counter(
            id_
            for it in told
            if isinstance(it, Published) and it.tracker == tracker
            for id_ in it.evaluations
        )


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a run of 100 results, which no tracker has."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output/logs/simpletuner").mkdir(parents=True)
    told = settings(tmp_path)
    watched = Watched(tmp_path, run_id(told.paths.output_dir), told.protocol)
    digest = told.protocol.digest
    with Journal(log_file(watched.state)) as journal:
        started = RunStarted(str(told.paths.output_dir), "", (), told.as_text(), "1")
        defined = ProtocolDefined(digest, told.protocol)
        journal.append(watched.run, f"run/{watched.run}", 0, [started, defined])
    watched.score(range(100, 10_100, 100))
    return watched


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


def test_a_kill_in_the_middle_doubles_nothing(watched: Watched) -> None:
    """Kill -9 once something was written down, and the same call again: each result once."""
    line = command("publish", "--to", "tensorboard", "--state-dir", str(watched.state))
    for _ in range(2):
        child = subprocess.Popen(line, cwd=watched.folder, env=environment())
        deadline = time.monotonic() + 60
        while not watched.published("tensorboard") and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    ended = subprocess.run(line, cwd=watched.folder, env=environment(), check=False)
    assert ended.returncode == 0
    assert watched.shown() == [*range(100, 10_100, 100)]
    assert set(watched.published("tensorboard").values()) == {1}


def test_torch_is_not_imported(watched: Watched) -> None:
    """Nor what comes with it: it runs where there is no GPU."""
    told = f"['publish', '--to', 'jsonl', '--state-dir', {str(watched.state)!r}]"
    script = f"import sys; from clipwatch.cli import main; main({told}, standalone_mode=False); "
    script += "sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    env = environment()
    ended = subprocess.run([sys.executable, "-c", script], cwd=watched.folder, env=env, check=False)
    assert ended.returncode == 0


@pytest.mark.thorough
def test_offline_runs_hold_each_result_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed amid W&B's second batch and called again; written anew they are there once, too."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    line = command("publish", "--to", "wandb", "--state-dir", str(watched.state))
    child = subprocess.Popen(line, cwd=watched.folder, env={**os.environ})
    deadline = time.monotonic() + 100
    while not watched.published("wandb"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    for more in ([], ["--since", "9000", "--fresh"]):
        assert watched.call("--to", "wandb", *more).exit_code == 0
        runs = [it for it in watched.state.rglob("offline-run-*") if it.is_dir()]
        rows = Counter(row["clipwatch/step"] for it in runs for row in finished_rows(it) or ())
        assert rows == dict.fromkeys(range(9000 if more else 100, 10_100, 100), 1)


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
