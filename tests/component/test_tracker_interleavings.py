"""Whatever happens to a tracker, in the end it shows what the log says, by its own reading."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backfill import backfill
from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.results.series import Result, Series
from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.series import make_target
from clipwatch.testing.witness import Point
from clipwatch_adapters.shared.frames import fields, records
from clipwatch_adapters.wandb.files import HEADER, PROJECT, RUN, finished_rows, matching
from fake_wandb import FakeWandb
from tensorboard_kit import tensorboard, until
from tracker_kit import NUMBER, Interleavings, OfSessions, courses, points
from wandb_world import isolate


def in_tensorboard(where: str) -> Iterator[Point]:
    """Yield the points of a run's folder as TensorBoard's own library reads it."""
    if Path(where).is_dir():
        shown = EventAccumulator(where, size_guidance={"scalars": 0}).Reload()
        for name in shown.Tags()["scalars"]:
            for point in shown.Scalars(name):
                yield name, point.step, point.value


def in_table(where: str) -> Iterator[Point]:
    """Yield the points of a series in a table, given as FILE#SERIES."""
    path, _, series = where.rpartition("#")
    if not Path(path).exists():
        return
    text = Path(path).read_text()
    rows: Iterable[dict[str, Any]]
    rows = (
        csv.DictReader(text.splitlines())
        if path.endswith("csv")
        else map(json.loads, text.splitlines())
    )
    for row in rows:
        if row["series"] == series:
            for name, value in row.items():
                if NUMBER.match(name) and value != "":
                    yield name, int(row["step"]), float(value)


def at_wandb(server: FakeWandb, where: str) -> Iterator[Point]:
    """Yield the points of a run at the server, given by its address."""
    for (entity, project, name), run in server.runs.items():
        if where.endswith(f"/{entity}/{project}/runs/{name}"):
            yield from points(run.rows, "clipwatch/step")


def in_offline_runs(where: str, project: str) -> Iterator[Point]:
    """Yield the points of the offline runs in a folder that go to a project."""
    for run in matching(Path(where), "offline-run-*"):
        (file,) = run.glob("run-*.wandb")
        told = [
            dict(fields(it))[PROJECT]
            for record in records(file, HEADER)
            for number, it in fields(record)
            if number == RUN and isinstance(it, bytes)
        ]
        if {*told} == {project.encode()}:
            yield from points(finished_rows(run) or (), "clipwatch/step")


@pytest.mark.thorough(but=2)
class TestMemory(Interleavings):
    """Lives as long as its one instance, so nobody kills it."""

    seed = courses(4)
    appends = True

    @pytest.fixture(autouse=True)
    def _memory(self, tmp_path: Path) -> None:
        self.memory = MemoryTracker(make_target(tmp_path))

    def make(self, target: Target) -> Tracker:  # noqa: ARG002 - there is one
        """See TrackerInterleavings."""
        return self.memory

    def numbers(self, series: Series, result: Result) -> Mapping[str, float]:  # noqa: ARG002 - one number
        """See TrackerInterleavings."""
        return {"clip/mean": result.clip.mean}

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - one memory
        """See TrackerInterleavings."""
        for step, clip in self.memory.rows.get(series.name, {}).values():
            yield "clip/mean", step, clip.mean


class OfTensorBoard(Interleavings):
    """TensorBoard, whose library reads what is there."""

    adapter = "clipwatch_adapters.tensorboard:TensorBoardTracker"

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a folder each
        """See TrackerInterleavings."""
        return in_tensorboard(where)


class BesideATrainer(OfTensorBoard):
    """TensorBoard below the trainer's run."""

    def target(self, folder: Path, project: str) -> Target:
        """See TrackerInterleavings."""
        target = make_target(folder, project=project)
        (target.logging_dir / project).mkdir(parents=True, exist_ok=True)
        return target


@pytest.mark.thorough(but=2)
class TestTensorBoardAlone(OfTensorBoard):
    """TensorBoard where the trainer has no run."""

    seed = courses(4)


@pytest.mark.thorough(but=2)
class TestTensorBoard(BesideATrainer):
    """TensorBoard where it has one."""

    seed = courses(4)


@pytest.mark.thorough
class TestTensorBoardServed(BesideATrainer):
    """The real server, with each of its readers, shows at the end what its library reads."""

    seed = courses(2)

    def test_any_course_ends_with_what_the_log_says(self, seed: int, tmp_path: Path) -> None:
        """Each run that is left has the same points, by name and step."""
        super().test_any_course_ends_with_what_the_log_says(seed, tmp_path)
        fast = ("true", "false")[seed]
        logs = make_target(tmp_path).logging_dir
        shown: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for folder in logs.glob("*/clipwatch*"):
            tags = shown.setdefault(str(folder.relative_to(logs)), {})
            for name, step, value in in_tensorboard(str(folder)):
                tags.setdefault(name, []).append((step, round(value, 4)))
        assert shown
        with tensorboard(logs, ["--logdir", str(logs), f"--load_fast={fast}"], tmp_path) as server:
            for run, tags in shown.items():
                for name, line in tags.items():
                    until(partial(server.points, run, name), line)


class OfATable(Interleavings):
    """A file in the state directory."""

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - one file
        """See TrackerInterleavings."""
        return in_table(where)


@pytest.mark.thorough(but=2)
class TestJsonl(OfATable):
    """`results.jsonl`."""

    seed = courses(4)
    adapter = "clipwatch_adapters.tables:JsonlTable"


@pytest.mark.thorough(but=2)
class TestCsv(OfATable):
    """`results.csv`."""

    seed = courses(4)
    adapter = "clipwatch_adapters.tables:CsvTable"


@pytest.mark.thorough
class TestWandb(OfSessions):
    """The real package, against a server on loopback."""

    seed = courses(1)
    adapter = "clipwatch_adapters.wandb:WandbTracker"

    @pytest.fixture(autouse=True)
    def _server(self, server: FakeWandb) -> None:
        self.server = server

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a run each
        """See TrackerInterleavings."""
        return at_wandb(self.server, where)


@pytest.mark.thorough
class TestWandbOffline(OfSessions):
    """Offline runs, as `wandb sync` uploads them: each to its project."""

    seed = courses(1)
    adapter = "clipwatch_adapters.wandb:WandbTracker"

    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        isolate(monkeypatch, tmp_path)
        monkeypatch.setenv("WANDB_MODE", "offline")

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - a folder each
        """See TrackerInterleavings."""
        return in_offline_runs(where, project)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("tracker", "read"), [("tensorboard", in_tensorboard), ("jsonl", in_table), ("csv", in_table)]
)
def test_a_history_comes_once_whoever_is_killed(
    tmp_path: Path,
    tracker: str,
    read: Callable[[str], Iterator[Point]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 results, kill -9 before and amid batches: each is there once."""
    isolate(monkeypatch, tmp_path)
    backfill(tmp_path, tracker, read)


@pytest.mark.thorough
def test_a_history_comes_to_wandb_once(tmp_path: Path, server: FakeWandb) -> None:
    """The same with the real package, against a server; fewer, as a session takes its time."""
    backfill(tmp_path, "wandb", partial(at_wandb, server), results=64)


@pytest.mark.thorough
def test_a_history_comes_into_offline_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same offline."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    read = partial(in_offline_runs, project="simpletuner")
    backfill(tmp_path, "wandb", read, results=100)
