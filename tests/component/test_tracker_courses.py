"""The trackers that come with extras end with what the log says, whatever happens to them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import comet_world
import swanlab_world
from backfill import backfill
from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series
from clipwatch.testing.series import make_target
from clipwatch.testing.witness import Point
from clipwatch_adapters.comet import archives
from clipwatch_adapters.mlflow.destination import SERIES, Destination
from clipwatch_adapters.swanlab import files
from mlflow_kit import Server
from tracker_kit import NUMBER, OfSessions, courses, points
from trackio_kit import stored


def in_archives(where: str, project: str) -> Iterator[Point]:
    """Yield the points of Comet's archives in a folder that go to a project."""
    for archive in sorted(Path(where).glob("*.zip")):
        with zipfile.ZipFile(archive) as file:
            head = json.loads(file.read("experiment.json"))
        if head["project_name"] == project:
            yield from (it for it in archives.points(archive) if NUMBER.match(it[0]))


def in_files(where: str, project: str) -> Iterator[Point]:
    """Yield the points of SwanLab's runs in a folder that go to a project."""
    for batch in sorted(Path(where).glob("cw*")):
        (run,) = batch.glob("run-*")
        (start,) = (it.start for it in swanlab_world.records(run) if it.HasField("start"))
        if start.project == project:
            yield from (it for it in files.points(batch) if NUMBER.match(it[0]))


@pytest.mark.thorough
class TestComet(OfSessions):
    """Archives, as `comet upload` takes them."""

    seed = courses(1)
    adapter = "clipwatch_adapters.comet:CometTracker"

    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        comet_world.isolate(monkeypatch, tmp_path)
        monkeypatch.setenv("COMET_START_ONLINE", "false")

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a folder each
        """See TrackerInterleavings."""
        return in_archives(where, project)


@pytest.mark.thorough
class TestSwanlab(OfSessions):
    """Runs of files, as `swanlab sync` takes them."""

    seed = courses(1)
    adapter = "clipwatch_adapters.swanlab:SwanlabTracker"

    @pytest.fixture(autouse=True)
    def _home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        swanlab_world.isolate(monkeypatch, tmp_path)

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a folder each
        """See TrackerInterleavings."""
        return in_files(where, project)


@pytest.mark.thorough
class TestMlflow(OfSessions):
    """A real server."""

    seed = courses(1)
    adapter = "clipwatch_adapters.mlflow:MlflowTracker"

    @pytest.fixture(autouse=True)
    def _server(self, mlflow: Server, tmp_path: Path) -> None:
        self.server, self.folder = mlflow, tmp_path

    def target(self, folder: Path, project: str) -> Target:
        """See TrackerInterleavings: tests share the server."""
        return make_target(folder, project=f"{folder.name} {project}")

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - found by its tag
        """See TrackerInterleavings."""
        target = self.target(self.folder, project)
        identity = Destination.of(target).identity(series)
        for run in self.server.runs(target.project):
            if run.tags.get(SERIES) == identity:
                for name in filter(NUMBER.match, run.latest):
                    yield from ((name, *point) for point in run.points(name, 12))


@pytest.mark.thorough
class TestTrackio(OfSessions):
    """The real store."""

    seed = courses(2)
    adapter = "clipwatch_adapters.trackio:TrackioTracker"
    appends = False

    @pytest.fixture(autouse=True)
    def _store(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.store = tmp_path / "store"
        monkeypatch.setenv("TRACKIO_DIR", str(self.store))

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a run each
        """See TrackerInterleavings."""
        name = where.rpartition("#")[2]
        rows = [
            {**json.loads(metrics), "step": step}
            for _, run, _, step, metrics, _ in stored(self.store, project)
            if run == name
        ]
        yield from points(sorted(rows, key=lambda row: row["step"]), "step")


@pytest.mark.thorough
def test_a_history_comes_into_archives_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 results, kill -9 before, amid and between batches: each is in Comet's archives once."""
    comet_world.isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("COMET_START_ONLINE", "false")
    backfill(tmp_path, "comet_ml", partial(in_archives, project="simpletuner"))


@pytest.mark.thorough
def test_a_history_comes_into_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in SwanLab's files."""
    swanlab_world.isolate(monkeypatch, tmp_path)
    backfill(tmp_path, "swanlab", partial(in_files, project="simpletuner"))
