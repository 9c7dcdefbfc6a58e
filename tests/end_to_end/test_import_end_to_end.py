"""Two machines that watched one training: real daemons, real logs, the real TensorBoard files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from fast_world import Training
from import_kit import Machine, Scored, files, held, rows
from loop_kit import until
from real_world import clipwatch, command, environment
from world import checkpoint


@pytest.fixture
def two(tmp_path: Path) -> tuple[Training, Training]:
    """The first scored steps 10 and 20; the second got 20 to go on from, and scored it and 30."""
    a, b = Training(tmp_path / "a"), Training(tmp_path / "b")
    a.train()
    a.train()
    a.finish()
    shutil.copytree(a.folder / "output/checkpoint-20", b.folder / "output/checkpoint-20")
    config = json.loads((b.folder / "config.json").read_text())
    config["pretrained_model_name_or_path"] = str(a.folder / "base")
    (b.folder / "config.json").write_text(json.dumps(config))
    checkpoint(b.folder / "output", 30, 0.3)
    b.finish()
    return a, b


def curve(training: Training) -> list[int]:
    """Return the steps that TensorBoard shows."""
    shown = EventAccumulator(str(training.curve), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in shown.Scalars("clip/mean")]


@pytest.mark.thorough
def test_a_running_daemon_publishes_what_is_imported(two: tuple[Training, Training]) -> None:
    """It scores nothing of it again, and nothing there is written to."""
    a, b = two
    made, before = b.images(), files(a.state)
    daemon = b.start("live")
    try:
        until(lambda: bool([*b.state.glob("*.alive")]))
        said = clipwatch("import", a.state, "--state-dir", b.state, cwd=b.folder)
        assert (said.returncode, said.stderr) == (0, "")
        assert "the same run: 1 result imported, 1 was here already" in said.stdout
        until(lambda: curve(b) == [10, 20, 30])
    finally:
        os.kill(int(daemon.pid or 0), signal.SIGTERM)
        daemon.join(60)
    assert files(a.state) == before
    assert b.images() == made
    assert b.run
    (row,) = [it for it in b.results().items() if it[0] == 10]
    assert row[1] == a.results()[10]
    b.finish()
    assert b.images() == made
    b.one_point_a_step()
    a_table = a.folder / "scores.jsonl"
    assert clipwatch("export", "-o", a_table, "--state-dir", a.state, cwd=a.folder).returncode == 0
    said = clipwatch("import", a_table, "--state-dir", b.state, cwd=b.folder)
    assert "nothing to import, 2 were here already" in said.stdout


@pytest.mark.thorough
def test_a_table_comes_in_and_is_published(two: tuple[Training, Training]) -> None:
    """What another machine exported stands in the curve as its own."""
    a, b = two
    table = a.folder / "scores.csv"
    clipwatch("export", "-o", table, "--state-dir", a.state, cwd=a.folder)
    said = clipwatch("import", table, "--state-dir", b.state, cwd=b.folder)
    assert (said.returncode, said.stderr) == (0, "")
    said = clipwatch("publish", "--to", "tensorboard", "--state-dir", b.state, cwd=b.folder)
    assert said.stdout.startswith(f"tensorboard: 3 results are in {b.curve}")
    assert curve(b) == [10, 20, 30]
    assert b.results()[10][2].mean == pytest.approx(a.results()[10][2].mean)


@pytest.mark.thorough
def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    """By SIGKILL at any moment; the log is as that of an import that nobody killed."""
    source, target = Machine(tmp_path / "a"), tmp_path / "b"
    with source.writing():
        results = [Scored(step, step) for step in range(1, 101)]
        source.see(*results)
        source.score(*results, images=True)
    asked = command("import", source.folder, "--state-dir", target)
    for number in range(4):
        killed = subprocess.Popen(asked, env=environment(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while killed.poll() is None and time.monotonic() < deadline:
            there = [*(target / "images").rglob("*.png")]
            if len(there) > 45 * number + 20:
                break
        killed.kill()
        killed.wait()
    subprocess.run(asked, env=environment(), check=True, capture_output=True)
    subprocess.run(
        [*asked[:-1], tmp_path / "c"], env=environment(), check=True, capture_output=True
    )
    assert held(target) == held(tmp_path / "c") == held(source.folder)
    assert [it[1:] for it in rows(target)] == [it[1:] for it in rows(tmp_path / "c")]
    images = [
        {it.relative_to(folder): it.read_bytes() for it in (folder / "images").rglob("*.png")}
        for folder in (source.folder, target)
    ]
    assert images[0] == images[1]
    assert not [*(target / "images").rglob(".*")]
    assert len(read_state(log_file(target))) == 1


@pytest.mark.thorough
def test_an_imported_run_is_published_where_its_folders_are_not(
    two: tuple[Training, Training], tmp_path: Path
) -> None:
    """As on another machine: neither the trainer's folder nor the base model is there."""
    a, _ = two
    new = tmp_path / "new"
    assert clipwatch("import", a.state, "--state-dir", new, cwd=tmp_path).returncode == 0
    a.folder.rename(tmp_path / "gone")
    said = clipwatch("publish", "--to", "tensorboard", "--state-dir", new, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"tensorboard: 2 results are in {new}/tensorboard/output-")
