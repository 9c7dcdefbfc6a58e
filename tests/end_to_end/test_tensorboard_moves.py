"""First results before the trainer opens its run: the curve follows it, under the real daemon."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.directory_watcher import DirectoryDeletedError

from real_world import clipwatch, daemon, guarded, points, until


def appear(project: Path) -> Path:
    """Have the trainer open its run; return where our curve belongs from then on."""
    run = project / "output/logs/shapes"
    run.mkdir(parents=True)
    (run / "events.out.tfevents.1.host").touch()
    return run / "clipwatch"


def steps(curve: Path) -> list[int]:
    """Return the steps that are shown there; none while the file there is still without a point."""
    try:
        return [step for step, _ in points(curve, "clip/mean")]
    except (KeyError, DirectoryDeletedError):  # this look came before the first point
        return []


@pytest.mark.thorough
def test_a_running_daemon_moves_its_curve(project: Path, base: Path) -> None:
    """Without a new result, within its next look; it says so, and later points follow there."""
    shutil.rmtree(project / "output/logs")
    guarded(project / "output", base, 10)
    with daemon(project):
        until(lambda: "published to" in (project / "said").read_text())
        curve = appear(project)
        until(lambda: steps(curve) == [10])
        guarded(project / "output", base, 20)
        until(lambda: steps(curve) == [10, 20])
    said = (project / "said").read_text()
    assert f"tensorboard: all is now in {curve}" in said
    assert f"tensorboard --logdir {project / 'output/logs'}" in said
    assert not any((project / "state").glob("tensorboard/**/*tfevents*"))


@pytest.mark.thorough
def test_a_restarted_daemon_moves_its_curve(project: Path, base: Path) -> None:
    """Nothing is evaluated again, and status and doctor name the place by the log."""
    shutil.rmtree(project / "output/logs")
    guarded(project / "output", base, 10)
    first = clipwatch("start", "--once", cwd=project)
    assert first.returncode == 0, first.stderr
    room = project / "state/tensorboard"
    (earlier,) = {path.parent for path in room.rglob("*tfevents*")}
    assert (
        f"tensorboard: {earlier}" in clipwatch("status", "--state-dir", "state", cwd=project).stdout
    )
    assert f"{earlier}; then" in clipwatch("doctor", cwd=project).stdout
    curve = appear(project)
    again = clipwatch("start", "--once", cwd=project)
    assert again.returncode == 0, again.stderr
    assert "images scored" in first.stderr
    assert "images scored" not in again.stderr
    assert steps(curve) == [10]
    assert (
        f"tensorboard: {curve}" in clipwatch("status", "--state-dir", "state", cwd=project).stdout
    )
    assert f"{curve}; then" in clipwatch("doctor", cwd=project).stdout
