"""An output directory is known again, and two logs of one never spoil what trackers show.

The real daemon with the fast evaluator, the real TensorBoard files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.cli import main
from clipwatch.domain.events import CheckpointCompleted, NoLongerShown, OutputDirMoved
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.results import view
from fast_world import Training
from loop_kit import until
from tensorboard_kit import event_file
from tracker_disks import mounted
from world import checkpoint


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Return a run with two checkpoints that are scored and published."""
    training = Training(tmp_path / "training")
    training.train()
    training.train()
    training.finish()
    return training


def change(training: Training, **keys: Any) -> None:
    """Change keys of the config; `clipwatch` adds to that object."""
    path = training.folder / "config.json"
    config = json.loads(path.read_text())
    config["clipwatch"].update(keys.pop("clipwatch", {}))
    path.write_text(json.dumps(config | keys))


def end(training: Training) -> tuple[int | None, str]:
    """Let a daemon do what is left; return how it ends, and what it says."""
    (training.folder / "said").write_text("")
    daemon = training.start()
    daemon.join(120)
    return daemon.exitcode, (training.folder / "said").read_text()


def points(curve: Path) -> list[int]:
    """Return the steps that a TensorBoard run shows."""
    accumulator = EventAccumulator(str(curve), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in accumulator.Scalars("clip/mean")]


def renamed(training: Training, place: Path) -> None:
    """Rename the directory."""
    (training.folder / "output").rename(place)


def copied(training: Training, place: Path) -> None:
    """Copy it, with other times, and remove the first."""
    shutil.copytree(training.folder / "output", place, copy_function=shutil.copyfile)
    shutil.rmtree(training.folder / "output")


def linked(training: Training, place: Path) -> None:
    """Reach it by a link."""
    place.symlink_to(training.folder / "output")


def led_to(training: Training, place: Path) -> None:
    """Make a link of the old name."""
    renamed(training, place)
    (training.folder / "output").symlink_to(place)


@pytest.mark.parametrize("move", [renamed, copied, linked, led_to])
def test_a_directory_is_known_by_another_path(
    training: Training, move: Callable[[Training, Path], None]
) -> None:
    """Nothing is scored twice, the curve goes on where it is, and the log tells."""
    made, before = training.images(), training.run
    assert before is not None
    place = training.folder / "elsewhere"
    move(training, place)
    change(training, output_dir="elsewhere")
    checkpoint(place, 30, 0.3)
    code, said = end(training)
    assert code == 0, said
    assert len(training.images()) == len(made) + 8
    assert training.images()[: len(made)] == made
    state = read_state(log_file(training.folder / "state"))
    assert list(state) == [before.name]
    assert state[before.name].output_dir == str(place)
    assert f"the run goes on in {place}" in said
    was = f"which was in {training.folder / 'output'}: its 2 results go on"
    assert f"recognised as the run {before.name}, {was}" in said
    assert points(place / "logs/kills/clipwatch") == [10, 20, 30]
    assert [row.step for row in view.rows(state[before.name])] == [10, 20, 30]
    moves = [it for it in training.logged() if isinstance(it.event, OutputDirMoved)]
    assert len(moves) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_directory_is_known_at_another_mount_point(training: Training) -> None:
    """As in a container that has it elsewhere."""
    made = training.images()
    place = training.folder / "elsewhere"
    with mounted(place, "--bind", training.folder / "output"):
        change(training, output_dir="elsewhere")
        code, said = end(training)
    assert code == 0, said
    assert training.images() == made
    assert len(read_state(log_file(training.folder / "state"))) == 1


def test_a_copy_is_another_run_until_a_person_says_otherwise(training: Training) -> None:
    """It is told, and `clipwatch adopt` lets it go on as the first."""
    made, first = training.images(), training.run
    assert first is not None
    place = training.folder / "copy"
    shutil.copytree(training.folder / "output", place)
    change(training, output_dir="copy")
    config = str(training.folder / "config.json")

    def clipwatch(*arguments: str) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    adopted = clipwatch("adopt", first.name[:9], "--config", config)
    assert adopted == f"{first.name} goes on in {place}, from the next start on\n"
    assert end(training)[0] == 0
    assert training.images() == made
    change(training, output_dir="output")
    code, _ = end(training)  # the original is the copy now
    assert code == 0
    state = read_state(log_file(training.folder / "state"))
    assert len(state) == 2
    assert len(training.images()) == 2 * len(made)
    assert points(training.curve) == [10, 20]
    assert points(place / "logs/kills/clipwatch") == [10, 20]


def test_a_daemon_lets_nobody_adopt_its_run(training: Training) -> None:
    """The run's lock says who watches it."""
    daemon = training.start("live")
    try:
        (lock,) = (training.folder / "state").glob("*.lock")
        until(lambda: f"pid {daemon.pid}" in lock.read_text())
        config = str(training.folder / "config.json")
        done = CliRunner().invoke(main, ["adopt", "output", "--config", config])
    finally:
        os.kill(int(daemon.pid or 0), signal.SIGTERM)
        daemon.join(60)
    assert done.exit_code == 1
    assert "is already watched by clipwatch with pid" in done.output


def test_a_lost_log_spoils_no_curve(training: Training) -> None:
    """What is there no more keeps its point, and what is scored again has one."""
    shutil.rmtree(training.folder / "output/checkpoint-10")
    shutil.rmtree(training.folder / "state")
    training.train()
    assert end(training)[0] == 0
    assert points(training.curve) == [10, 20, 30]


def test_a_lost_log_and_other_prompts_spoil_no_curve(training: Training) -> None:
    """Another protocol's curve stands beside the first, which stays byte for byte."""
    file = event_file(training.curve)
    before = file.read_bytes()
    shutil.rmtree(training.folder / "state")
    (training.folder / "prompts.txt").write_text("a green door\n")
    assert end(training)[0] == 0
    assert file.read_bytes() == before
    (other,) = training.curve.parent.glob("clipwatch-*")
    assert points(other) == [10, 20]


def test_a_log_restored_from_a_backup_spoils_no_curve(training: Training) -> None:
    """What was published since stays, what is scored again has one point."""
    backup = training.folder / "backup"
    shutil.copytree(training.folder / "state", backup)
    training.train()
    training.train()
    training.finish()
    shutil.rmtree(training.folder / "output/checkpoint-30")
    shutil.rmtree(training.folder / "state")
    backup.rename(training.folder / "state")
    training.train()
    assert end(training)[0] == 0
    assert points(training.curve) == [10, 20, 30, 40, 50]


def test_what_a_restored_log_lacks_is_told_and_comes_in(training: Training) -> None:
    """From the newer copy: nothing is scored for it, and each step has one point."""
    backup, newer = training.folder / "backup", training.folder / "newer"
    shutil.copytree(training.folder / "state", backup)
    training.train()
    training.train()
    training.finish()
    for step in (30, 40):
        shutil.rmtree(training.folder / f"output/checkpoint-{step}")
    results, made = training.results(), training.images()
    training.state.rename(newer)
    backup.rename(training.state)
    code, said = end(training)
    assert code == 0
    told = "tensorboard: shows 2 results that this log lacks"
    assert f"{told} (checkpoint-30, checkpoint-40); clipwatch import brings them in" in said
    assert training.run is not None
    state = str(training.state)
    assert view.beyond(training.run) == [f"{told}; {view.BRINGS_THEM_IN}"]
    status = CliRunner().invoke(main, ["status", "--state-dir", state]).output
    assert told in " ".join(status.split())
    assert told not in end(training)[1]  # once
    done = CliRunner().invoke(main, ["import", str(newer), "--state-dir", state])
    assert "the same run: 2 results imported, 2 were here already" in done.output
    assert view.beyond(training.run) == []
    assert end(training)[0] == 0
    assert training.images() == made
    assert {step: row[2] for step, row in training.results().items()} == {
        step: row[2] for step, row in results.items()
    }
    training.one_point_a_step()


def test_one_clipwatch_watches_a_directory(training: Training) -> None:
    """One with another state directory is told whose it is, waits, and goes on when that ends."""
    first = training.start("live")
    state = training.folder / "state"
    until(lambda: bool([*state.glob("*.alive")]))
    change(training, clipwatch={"state_dir": "other"})
    said = training.folder / "said"
    taken = f"is watched by another clipwatch (pid {first.pid})"
    code, told = end(training)
    assert code == 1
    assert taken in told
    second = training.start("live")
    try:
        until(lambda: said.read_text().count(taken) == 2)
        (run,) = read_state(log_file(training.folder / "other")).values()
        assert taken in run.problem
        os.kill(int(first.pid or 0), signal.SIGKILL)
        until(lambda: "the output directory can be read" in said.read_text())
    finally:
        for daemon in (first, second):
            if daemon.is_alive():
                os.kill(int(daemon.pid or 0), signal.SIGTERM)
            daemon.join(60)
    assert said.read_text().count(taken) == 2


def test_what_a_person_removed_comes_back(training: Training) -> None:
    """Each tracker is read once at a start; what cannot come back is told until it does."""
    shutil.rmtree(training.curve)
    assert end(training)[0] == 0
    assert points(training.curve) == [10, 20]
    assert not [it for it in training.logged() if isinstance(it.event, NoLongerShown)]
    shutil.rmtree(training.curve)
    training.curve.write_text("in the way")
    _, said = end(training)
    assert f"tensorboard: TensorBoard: {training.curve}" in said
    assert training.run is not None
    (told,) = view.problems(training.run)
    assert f"{training.curve}: Not a directory" in told
    training.curve.unlink()
    training.curve.mkdir()
    assert end(training)[0] == 0
    assert points(training.curve) == [10, 20]
    assert view.problems(training.run) == []


def test_weights_that_come_back_are_one_answer(training: Training) -> None:
    """A, then others, then A again under one name: status, trackers and `best` show A."""
    assert training.run is not None
    first = training.results()[20]
    for value in (0.9, 0.2):
        checkpoint(training.folder / "output", 20, value)
        assert end(training)[0] == 0
    assert len([it for it in training.logged() if isinstance(it.event, CheckpointCompleted)]) == 4
    assert training.results()[20] == first
    accumulator = EventAccumulator(str(training.curve), size_guidance={"scalars": 0}).Reload()
    shown = {point.step: point.value for point in accumulator.Scalars("clip/mean")}
    assert shown[20] == pytest.approx(first[2].mean)
    run = training.run
    assert run is not None
    last = run.evaluations[run.scored[run.protocol][-1]]
    assert last.digest == run.checkpoints["checkpoint-20"].digest
