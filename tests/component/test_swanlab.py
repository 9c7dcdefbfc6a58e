"""The SwanLab adapter: runs of files, held against SwanLab's own reader."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerRefused
from clipwatch.testing.series import START, make_series, make_target, with_everything
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.swanlab import SwanlabTracker
from clipwatch_adapters.swanlab.files import held, points
from swanlab_world import isolate, means, records
from tracker_kit import bring

OPENED = """
import pathlib, sys
from swanlab import Settings
from swanlab.proto.swanlab.grpc.core.v1.sync_pb2 import DeliverSyncStartRequest as Request
from swanlab.sdk.internal import impl
core = impl.create_core_sync()
settings = Settings().to_core_proto("another", pathlib.Path(sys.argv[1]))
told = core.deliver_sync_start(Request(core_settings=settings, id="another"))
sys.exit(told.message if not told.success else 0)
"""
"""What `swanlab sync` does with a run before it asks its server."""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave no key, mode or file of the machine that runs the test."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.mark.thorough(but=3)
class TestOffline(TrackerContract):
    """The contract with runs of files."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: SwanlabTracker(target)


@pytest.mark.thorough
def test_a_run_tells_all_of_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers at their steps, protocol, images, table, advice; once; and nothing elsewhere."""
    hostile = {"MODE": "disabled", "RUN_ID": "trainers", "EXP_NAME": "x", "LOG_DIR": str(tmp_path)}
    for name, value in hostile.items():
        monkeypatch.setenv(f"SWANLAB_{name}", value)
    series = with_everything(make_series(tmp_path, [100, 300, 200]))
    tracker = SwanlabTracker(make_target(tmp_path))
    monkeypatch.chdir(tmp_path / "output")
    tracker.publish(series, [0, 1, 2])
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]
    (run,) = Path(tracker.where(series)).glob("*/run-*")
    found = list(records(run))
    (start,) = (it.start for it in found if it.HasField("start"))
    assert (start.project, start.name, start.group) == ("project", "run / clipwatch", "run")
    assert list(start.tags) == ["clipwatch"]
    assert start.id != "trainers"
    assert start.id in tracker.hint(series)
    media = {(it.media.key, it.media.step): it.media.value.items for it in found if it.media.key}
    captions = [it.caption for it in media["clipwatch/samples", 100]]
    assert captions[0] == "step 100, score 0.2000: a red cube on a table"
    assert len(captions) == 4
    assert all(
        (run / "media" / "image" / it.filename).exists() for it in media["clipwatch/samples", 300]
    )
    (table,) = media["clipwatch/scores", 200]
    assert "a harbour in the fog" in (run / "media" / "echarts" / table.filename).read_text()
    assert ("clipwatch/advice", 300) in media
    assert series.digest in (run / "files" / "config.yaml").read_text()
    keys = {it.scalar.key for it in found if it.scalar.key}
    assert {"scorer_siglip/mean", "clip_category/places", "clip_delta/best_low"} <= keys
    own = [(it.scalar.key, it.scalar.step, it.scalar.value.number) for it in found if it.scalar.key]
    assert points(run.parent) == own
    assert [it.name for it in (tmp_path / "output").iterdir()] == []
    assert not any(Path(os.environ["HOME"]).iterdir())


@pytest.mark.thorough
def test_a_step_that_comes_again_has_a_run_of_its_own(tmp_path: Path) -> None:
    """SwanLab takes a step of a key once in a session, so the later result is of another."""
    series = make_series(tmp_path, [100, 200, 100], images=False)
    tracker = SwanlabTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1, 2])
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]
    assert len(list(Path(tracker.where(series)).glob("*/run-*"))) == 2


@pytest.mark.thorough
def test_a_later_scorer_is_added(tmp_path: Path) -> None:
    """What a scorer said later comes alone, and the result counts once that is there, too."""
    series = make_series(tmp_path, [100], images=False)
    tracker = SwanlabTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    scored = with_everything(series).results[0].scores
    later = replace(series.results[0], scores=scored, later={"siglip": START})
    grown = replace(with_everything(series), results=(later,))
    assert tracker.published(grown) == frozenset()
    assert bring(SwanlabTracker(make_target(tmp_path)), grown) == {0}
    assert means(tracker.where(series)) == [(100, series.results[0].clip.mean)]
    *_, added = sorted(it for it in Path(tracker.where(series)).iterdir() if it.is_dir())
    assert ("scorer_siglip/mean", 100, scored["siglip"].mean) in points(added)
    tracker.clear(grown)
    assert bring(tracker, grown) == {0}
    assert means(tracker.where(series)) == [(100, series.results[0].clip.mean)]


@pytest.mark.thorough
def test_runs_are_synced_in_order_and_may_be_removed(tmp_path: Path) -> None:
    """The hint names each run once, for one id; what was synced and removed is not written again.

    SwanLab's server is stood in for by a program that says what it was called with.
    """
    series = make_series(tmp_path, [100, 300, 200], images=False)
    tracker = SwanlabTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    tracker.publish(series, [1, 2])
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "swanlab"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    called = subprocess.run(
        ["bash", "-c", tracker.hint(series)], check=True, capture_output=True, text=True, env=env
    )
    lines = [it.split() for it in called.stdout.splitlines()]
    assert len({tuple(it[:-1]) for it in lines}) == 1
    runs = [Path(it[-1]) for it in lines]
    steps = [
        [it.scalar.step for it in records(run) if it.scalar.key == "clip/mean"] for run in runs
    ]
    assert steps == [[100], [300, 200]]
    subprocess.run([sys.executable, "-c", OPENED, runs[0]], check=True)
    for run in runs:
        subprocess.run(["rm", "-r", run.parent], check=True)
    assert bring(SwanlabTracker(make_target(tmp_path)), series) == {0, 1, 2}
    assert not any(it.is_dir() for it in Path(tracker.where(series)).iterdir())


@pytest.mark.thorough
def test_a_damaged_run_is_replaced(tmp_path: Path) -> None:
    """One without its end counts for nothing, and its rows are written again, once."""
    series = make_series(tmp_path, [100, 300], images=False)
    tracker = SwanlabTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    (file,) = Path(tracker.where(series)).glob("*/run-*/*.swanlab")
    os.truncate(file, file.stat().st_size - 10)
    assert held(file.parent.parent) is None
    assert tracker.published(series) == frozenset()
    assert bring(SwanlabTracker(make_target(tmp_path)), series) == {0, 1}
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told which extra installs it."""
    (tmp_path / "swanlab.py").write_text("raise ImportError('No module named swanlab')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    series = make_series(tmp_path, [100], images=False)
    with pytest.raises(TrackerRefused, match=r"pip install 'clipwatch\[swanlab\]'"):
        SwanlabTracker(make_target(tmp_path)).publish(series, [0])


def test_the_daemon_does_not_load_swanlab() -> None:
    """The adapter is loaded without SwanLab's package; all of that happens in the child."""
    code = "import sys, clipwatch_adapters.swanlab; sys.exit('swanlab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
