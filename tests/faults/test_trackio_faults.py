"""The Trackio adapter where its store fails, and where its process is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Timer

import pytest

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import make_series, make_target, with_everything
from clipwatch_adapters.trackio import TrackioTracker, session
from tracker_disks import fill, mounted
from tracker_kit import bring
from trackio_kit import dashboard, stored
from wandb_world import collect_children

PUBLISH = """
import sys
from pathlib import Path
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.trackio import TrackioTracker
folder = Path(sys.argv[1])
series = make_series(folder, range(200), images=False)
while True:
    TrackioTracker(make_target(folder)).publish(series, range(200))
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of the store, which is not there yet."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Return three results, the last one late."""
    return make_series(tmp_path, [100, 300, 200])


@pytest.mark.thorough
def test_200_results_with_a_kill_amid_them_come_once(store: Path, tmp_path: Path) -> None:
    """A daemon that dies with a part of them there leaves the rest to the next one, and no double.

    As Trackio's own dashboard reads them.
    """
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISH, str(tmp_path)])
    end = time.monotonic() + 60
    while not stored(store, "project") and time.monotonic() < end:
        time.sleep(0.01)
    publisher.kill()
    publisher.wait()
    assert 0 < len(stored(store, "project")) < 200
    series = make_series(tmp_path, range(200), images=False)
    assert bring(TrackioTracker(make_target(tmp_path)), series) == set(range(200))
    with dashboard(store, tmp_path) as shown:
        (run,) = shown.runs("project")
        rows = shown.rows("project", run["id"])
    assert [(row["step"], row["clip/mean"]) for row in rows] == [
        (result.step, result.clip.mean) for result in series.results
    ]


@pytest.mark.thorough
def test_a_session_that_is_killed_at_any_moment_leaves_all_or_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt is killed a little later; then one that comes to its end brings all, once."""
    series = with_everything(make_series(tmp_path, [100, 300, 200]))
    tracker, children = TrackioTracker(make_target(tmp_path)), collect_children(monkeypatch)

    def kill() -> None:
        children[-1].kill()

    for seconds in (0.3, 0.6, 0.8):
        killer = Timer(seconds, kill)
        killer.start()
        with suppress(TrackerUnavailable):
            tracker.publish(series, [0, 1, 2])
        killer.join()
        assert len(stored(store, "project")) in {0, 3}
    assert bring(TrackioTracker(make_target(tmp_path)), series) == {0, 1, 2}
    assert [row[3] for row in stored(store, "project")] == [100, 300, 200]
    with closing(sqlite3.connect(store / "project.db")) as connection:
        assert connection.execute("SELECT count(*) FROM alerts").fetchone() == (2,)


@pytest.mark.thorough
def test_a_locked_store_is_tried_again(store: Path, tmp_path: Path, series: Series) -> None:
    """Another program that keeps the database is named as what it is, in bounded time."""
    tracker = TrackioTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    with closing(sqlite3.connect(store / "project.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TrackerUnavailable, match=r"locked, another program.*tried again"):
            tracker.publish(series, [1, 2])
        other.rollback()
    assert bring(tracker, series) == {0, 1, 2}


def test_what_is_no_database_is_left_alone(store: Path, tmp_path: Path, series: Series) -> None:
    """A file that is none of SQLite's is refused with its name, and stays as it is."""
    store.mkdir()
    file = store / "project.db"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 50)
    before = file.read_bytes()
    with pytest.raises(TrackerRefused, match=f"{store}.*not a database: move it away"):
        bring(TrackioTracker(make_target(tmp_path)), series)
    assert file.read_bytes() == before


def test_a_much_older_store_is_left_alone(store: Path, tmp_path: Path, series: Series) -> None:
    """One that our Trackio would give another form, in which the training's could not log."""
    store.mkdir()
    with closing(sqlite3.connect(store / "project.db")) as connection:
        connection.execute("CREATE TABLE metrics (id INTEGER, timestamp, run_name, step, metrics)")
    before = (store / "project.db").read_bytes()
    with pytest.raises(TrackerRefused, match=r"older Trackio.*pip install -U trackio"):
        TrackioTracker(make_target(tmp_path)).publish(series, [0])
    assert (store / "project.db").read_bytes() == before


def test_another_version_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What clipwatch uses of Trackio's insides is looked for before it is used."""
    monkeypatch.setattr(session, "USED", {"bulk_log": {"project", "no_such_argument"}})
    with pytest.raises(TrackerRefused, match=r"Trackio \S+ has no bulk_log as.*pip install 'track"):
        session._storage()


@pytest.mark.thorough
def test_a_full_disk_is_tried_again(store: Path, tmp_path: Path, series: Series) -> None:
    """It is told by its name; with room again everything comes once."""
    with mounted(store, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        tracker = TrackioTracker(make_target(tmp_path))
        tracker.publish(series, [0])
        ballast = fill(store)
        with pytest.raises(TrackerUnavailable, match=f"{store}..*full.*tried again"):
            tracker.publish(series, [1, 2])
        ballast.unlink()
        assert bring(tracker, series) == {0, 1, 2}
        assert [row[3] for row in stored(store, "project")] == [100, 300, 200]


@pytest.mark.thorough
def test_a_store_that_may_not_be_written_waits(store: Path, tmp_path: Path, series: Series) -> None:
    """A read-only disk is somebody's to mend; what is there can still be read."""
    TrackioTracker(make_target(tmp_path)).publish(series, [0])
    with mounted(store, "--bind", "-o", "ro", store):
        tracker = TrackioTracker(make_target(tmp_path))
        with pytest.raises(TrackerRefused, match=f"{store}.*let clipwatch write there"):
            tracker.publish(series, [1])


def test_a_file_in_the_stores_place_is_told(tmp_path: Path, store: Path, series: Series) -> None:
    """With its path, in one line."""
    store.touch()
    with pytest.raises(TrackerRefused, match=f"{store}.*: let clipwatch write there"):
        bring(TrackioTracker(make_target(tmp_path)), series)
    assert store.stat().st_size == 0
