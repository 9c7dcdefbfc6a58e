"""The SwanLab adapter when it is killed, and without room."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.swanlab import SwanlabTracker
from swanlab_world import means
from tracker_disks import fill, mounted
from tracker_kit import bring
from wandb_world import collect_children


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave no file of the machine that runs the test."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.mark.thorough
def test_two_hundred_results_and_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-filled, with kill -9 amid a batch: SwanLab's own reader finds each result once."""
    children = collect_children(monkeypatch)
    series = make_series(tmp_path, range(100, 20_100, 100), images=False)
    tracker = SwanlabTracker(make_target(tmp_path))
    folder = Path(tracker.where(series))

    def kill() -> None:  # as soon as the second session has begun its run
        while len(list(folder.glob("*/run-*/*.swanlab"))) < 2:
            time.sleep(0.005)
        os.kill(children[1].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrackerUnavailable, match="ended with -9"):
        tracker.publish(series, range(200))
    killer.join()
    assert len(tracker.published(series)) == 40
    while len(bring(SwanlabTracker(make_target(tmp_path)), series)) < 200:
        pass
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]


@pytest.mark.thorough
def test_a_full_disk_may_pass(tmp_path: Path) -> None:
    """Without room nothing is lost and nothing counted; with room each result comes once."""
    series = make_series(tmp_path, [100, 300], images=False)
    with mounted(tmp_path / "state", "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        tracker = SwanlabTracker(make_target(tmp_path))
        tracker.publish(series, [0])
        ballast = fill(tmp_path / "state")
        with pytest.raises(TrackerUnavailable):
            bring(tracker, series)
        assert tracker.published(series) == {0}
        ballast.unlink()
        assert bring(tracker, series) == {0, 1}
        assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]
