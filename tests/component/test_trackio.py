"""The Trackio adapter on Trackio's real store, read as its own dashboard reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerRefused
from clipwatch.results.series import Series
from clipwatch.testing.series import START, make_series, make_target, with_everything
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.shared.numbers import Names, scalars
from clipwatch_adapters.trackio import TrackioTracker
from clipwatch_adapters.trackio.starting import environment
from tensorboard_kit import until
from tracker_kit import bring
from trackio_kit import Dashboard, dashboard, stored, training

MOVED = """
import sys, trackio
(run,) = trackio.Api().runs(sys.argv[1])
run.rename("my own name")
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Return a dashboard of a store in which each test has a project."""
    store = tmp_path_factory.mktemp("store")
    with dashboard(store, tmp_path_factory.mktemp("said")) as server:
        yield server


@pytest.fixture
def target(
    shown: Dashboard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Target:
    """Return a target in the dashboard's store, called as the test."""
    monkeypatch.setenv("TRACKIO_DIR", str(shown.store))
    return make_target(tmp_path, project=request.node.name)


def points(rows: list[dict[str, Any]], tag: str = "clip/mean") -> list[tuple[int, float]]:
    """Return (step, value) of a metric in the order of the steps."""
    return sorted((row["step"], row[tag]) for row in rows if tag in row)


def means(series: Series, *, at: tuple[int, ...]) -> list[tuple[int, float]]:
    """Return (step, mean) of the results with these `seq`."""
    return sorted((it.step, it.clip.mean) for it in series.results if it.seq in at)


@pytest.mark.thorough(but=2)
class TestTrackio(TrackerContract):
    """The contract, in a store of its own."""

    @pytest.fixture
    def connect(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
        """See TrackerContract."""
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
        target = make_target(tmp_path)
        return lambda: TrackioTracker(target)


def test_the_dashboard_shows_all_of_a_result(
    shown: Dashboard, target: Target, tmp_path: Path
) -> None:
    """Numbers, images with captions, a table of the prompts, the histogram and advice, once."""
    series = with_everything(make_series(tmp_path, [100, 200]))
    for _ in range(2):
        TrackioTracker(target).publish(series, [0, 1])
    (run,) = shown.runs(target.project)
    assert run["name"] == "run-clipwatch"
    first, second = shown.rows(target.project, run["id"])
    for row, result in zip((first, second), series.results, strict=True):
        told = scalars(Names.of(series), result)
        assert {key: row[key] for key in told} == told
        assert row["step"] == result.step
        assert len(row["clipwatch/scores"]["_value"]) == len(series.protocol.prompts)
        assert sum(row["clipwatch/histogram"]["values"]) == len(series.protocol.prompts)
    image = second["clipwatch_sample/red-cube"]
    assert image["caption"].startswith("step 200, score 0.21")
    assert shown.file(image["file_path"]).startswith(b"\xff\xd8")
    alerts = shown.ask("get_alerts", project=target.project)
    assert sorted(it["title"] for it in alerts) == [
        f"clipwatch: {kind} at step 200" for kind in ("plateau", "regressed")
    ]
    assert alerts[0]["level"] == "warn"


@pytest.mark.thorough
def test_a_training_beside_it_keeps_all_that_it_logs(shown: Dashboard, target: Target) -> None:
    """What accelerate's tracker logs before, while and after we publish stays as it was.

    Our run tells which run is the trainer's, and stands in its group.
    """
    store, project = shown.store, target.project
    series = make_series(target.working_dir, [0, 1, 2])
    with training(store, project) as out:
        out.write(b"0.1\n0.2\n")
        out.flush()
        until(lambda: len(stored(store, project)), 2)
        before = stored(store, project)
        assert bring(TrackioTracker(target), series) == {0, 1, 2}
        out.write(b"0.3\n")
        out.flush()
        until(lambda: len(stored(store, project)), 6)
    theirs = [row for row in stored(store, project) if not row[0].startswith("cw-")]
    assert theirs[:2] == before
    assert [json.loads(row[4])["clip/mean"] for row in theirs] == [0.1, 0.2, 0.3]
    configs = shown.ask("get_run_configs", project=project)
    ours = next(it for known, it in configs.items() if known.startswith("cw-"))
    assert (ours["trainer_run"], ours["_Group"]) == (theirs[0][1], "night")
    assert ours["protocol"] == series.digest


@pytest.mark.thorough
def test_a_step_has_the_point_that_stands(shown: Dashboard, target: Target, tmp_path: Path) -> None:
    """A late step stands in its place; one that was scored again has the newer result alone."""
    series = make_series(tmp_path, [100, 300, 200, 100], images=False)
    TrackioTracker(target).publish(replace(series, results=series.results[:2]), [0, 1])
    assert bring(TrackioTracker(target), series) == {0, 1, 2, 3}
    (run,) = shown.runs(target.project)
    assert points(shown.rows(target.project, run["id"])) == means(series, at=(1, 2, 3))


@pytest.mark.thorough
def test_an_older_log_leaves_no_second_point(
    shown: Dashboard, target: Target, tmp_path: Path
) -> None:
    """What a log from before a second score brought back goes when the newer log is there again."""
    series = make_series(tmp_path, [100, 100], images=False)
    older = replace(series, results=series.results[:1])
    for log in (series, older):
        assert 0 in bring(TrackioTracker(target), log)
    assert bring(TrackioTracker(target), series) == {0, 1}
    (run,) = shown.runs(target.project)
    assert points(shown.rows(target.project, run["id"])) == means(series, at=(1,))


@pytest.mark.thorough
def test_a_scorer_that_came_later_adds_a_row(
    shown: Dashboard, target: Target, tmp_path: Path
) -> None:
    """The result is published once its numbers are there too; the others have one point each."""
    series = make_series(tmp_path, [100], images=False)
    assert bring(TrackioTracker(target), series) == {0}
    (result,) = series.results
    more = replace(result, scores={**result.scores, "late": result.clip}, later={"late": START})
    grown = replace(series, results=(more,))
    assert TrackioTracker(target).published(grown) == frozenset()
    assert bring(TrackioTracker(target), grown) == {0}
    (run,) = shown.runs(target.project)
    rows = shown.rows(target.project, run["id"])
    assert points(rows) == points(rows, "scorer_late/mean") == means(series, at=(0,))


@pytest.mark.thorough
def test_a_run_that_was_renamed_goes_on(shown: Dashboard, target: Target, tmp_path: Path) -> None:
    """What comes after somebody renamed our run in the dashboard stands in that one."""
    series = make_series(tmp_path, [100, 200])
    TrackioTracker(target).publish(series, [0])
    subprocess.run([sys.executable, "-c", MOVED, target.project], check=True)
    assert bring(TrackioTracker(target), series) == {0, 1}
    (run,) = shown.runs(target.project)
    assert run["name"] == "my own name"
    rows = shown.rows(target.project, run["id"])
    assert points(rows) == means(series, at=(0, 1))
    assert all(shown.file(row["clipwatch_sample/red-cube"]["file_path"]) for row in rows)


@pytest.mark.parametrize("name", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_a_server_is_told_to_be_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where the training logs elsewhere, one line says so."""
    monkeypatch.setenv(name, "me/space")
    series, target = make_series(tmp_path, [100], images=False), make_target(tmp_path)
    with pytest.raises(TrackerRefused, match=f"{name} is set.*local store alone: unset it"):
        TrackioTracker(target).destination()  # which doctor asks, too
    with pytest.raises(TrackerRefused, match=name):
        TrackioTracker(target).publish(series, [0])


@pytest.mark.thorough
def test_a_store_that_is_named_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever server the training logs to."""
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    series, target = make_series(tmp_path, [100], images=False), make_target(tmp_path)
    chosen = replace(target, options={"dir": "own"})
    assert bring(TrackioTracker(chosen), series) == {0}
    assert (target.working_dir / "own" / "project.db").exists()


@pytest.mark.thorough
def test_what_trackio_cannot_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reserved project, and a store into which Trackio writes no database, in one line each."""
    series = make_series(tmp_path, [100], images=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    with pytest.raises(TrackerRefused, match=r"no project 'x_system'.*another tracker_project"):
        TrackioTracker(make_target(tmp_path, project="x_system")).publish(series, [0])
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "jsonl")
    with pytest.raises(TrackerRefused, match=f"{tmp_path}/store is on a network file system"):
        TrackioTracker(make_target(tmp_path)).publish(series, [0])
    assert not (tmp_path / "store").exists()


def test_where_and_how_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is Trackio's own unless TRACKIO_DIR or the option says otherwise."""
    from huggingface_hub.constants import HF_HOME

    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    series = make_series(tmp_path, [100], images=False)
    target = replace(make_target(tmp_path, project="my project"), run_name="a/../b")
    usual = TrackioTracker(target)
    assert usual.where(series) == f"{HF_HOME}/trackio/myproject.db#a_b-clipwatch"
    assert usual.hint(series) == "trackio show --project 'my project'"
    monkeypatch.setenv("TRACKIO_DIR", "there")
    named = TrackioTracker(target)
    assert named.where(series) == f"{tmp_path}/there/myproject.db#a_b-clipwatch"
    assert named.hint(series).startswith(f"TRACKIO_DIR={tmp_path}/there trackio show")
    own = TrackioTracker(replace(target, options={"dir": "/own"}))
    assert own.destination() == "/own, project my project, form 2"


@pytest.mark.parametrize("project", ["a.b/c d", "né-_9", "..", "", "日本 "])
def test_the_file_is_called_as_trackio_calls_it(tmp_path: Path, project: str) -> None:
    """Whatever characters a project's name has."""
    from trackio.utils import canonical_project_name

    where = TrackioTracker(make_target(tmp_path, project=project)).where(make_series(tmp_path, []))
    assert Path(where.partition("#")[0]).name == f"{canonical_project_name(project)}.db"


def test_a_session_inherits_nothing_that_leads_to_a_network() -> None:
    """No Space, server, bucket, token or webhook reaches Trackio."""
    names = ("SPACE_ID", "SERVER_URL", "BUCKET_ID", "DATASET_ID", "WRITE_TOKEN", "WEBHOOK_URL")
    given = {f"TRACKIO_{name}": "x" for name in names} | {"HF_TOKEN": "x", "SYSTEM": "spaces"}
    kept = environment(given | {"TRACKIO_STORAGE_MODE": "sqlite"})
    assert kept.keys() - {"HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"} == {
        "TRACKIO_STORAGE_MODE"
    }
