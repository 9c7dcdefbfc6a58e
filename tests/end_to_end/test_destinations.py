"""What was scored is owed to each place that the settings name, until it was read back there.

The real daemon with the fast evaluator, the real TensorBoard files, the real wandb-core.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.domain.events import (
    AdviceNotSent,
    AdviceSent,
    DestinationChanged,
    Published,
    PublishFailed,
)
from clipwatch.journal import Journal, log_file
from clipwatch.results import view
from fake_wandb import ENTITY, KEY, FakeWandb
from fast_world import Training

WRONG_KEY = "f" * 40


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    """Return a W&B server."""
    with FakeWandb() as server:
        yield server


@pytest.fixture
def training(tmp_path: Path, server: FakeWandb) -> Training:
    """Return a run that reports to both trackers."""
    return Training(tmp_path / "training", {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY})


def change(training: Training, **top: Any) -> None:
    """Change keys of the config; those of the object clipwatch are told as `clipwatch`."""
    path = training.folder / "config.json"
    config = json.loads(path.read_text())
    config["clipwatch"].update(top.pop("clipwatch", {}))
    path.write_text(json.dumps(config | top))


def run_once(training: Training) -> tuple[int, str]:
    """Let a daemon do all that is left; return how it ends, and what it said."""
    (training.folder / "said").write_text("")
    daemon = training.start()
    daemon.join(120)
    assert daemon.exitcode is not None
    return daemon.exitcode, (training.folder / "said").read_text()


def problems(training: Training) -> list[str]:
    """Return what `clipwatch status` says stands in the way."""
    assert training.run is not None
    return view.problems(training.run)


def rows(server: FakeWandb, entity: str = ENTITY, project: str = "kills") -> list[list[int]]:
    """Return the steps of each run of a project."""
    owners = [run for key, run in server.runs.items() if key[:2] == (entity, project)]
    return sorted(sorted(step for _, step in run.points) for run in owners)


def points(curve: Path) -> list[int]:
    """Return the steps that a TensorBoard run shows."""
    accumulator = EventAccumulator(str(curve), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in accumulator.Scalars("clip/mean")]


@pytest.mark.thorough
def test_what_was_scored_under_earlier_settings_is_published_when_the_tracker_is_back(
    training: Training, server: FakeWandb
) -> None:
    """Until then `status` says what is owed to whom, and --once ends with 1."""
    training.curve.write_text("in the way of our folder")
    training.environment["WANDB_API_KEY"] = WRONG_KEY
    training.train()
    assert run_once(training)[0] == 1
    change(training, clipwatch={"seed": 7})
    code, said = run_once(training)
    assert code == 1
    assert "not everything is published to tensorboard, wandb" in said
    told = problems(training)
    assert [line for line in told if line.startswith("tensorboard: 1 result of earlier settings")]
    assert [line for line in told if line.startswith("wandb: 1 result of earlier settings")]
    assert rows(server) == []
    (later,) = training.curve.parent.glob("clipwatch-*")
    assert points(later) == [10]
    training.curve.unlink()
    training.environment["WANDB_API_KEY"] = KEY
    training.train()
    assert run_once(training)[0] == 0
    assert problems(training) == []
    assert points(later) == [10, 20]
    assert points(training.curve) == [10]
    assert rows(server) == [[10], [10, 20]]
    assert len(training.images()) == len(set(training.images()))


@pytest.mark.thorough
def test_a_changed_destination_gets_everything_once(training: Training, server: FakeWandb) -> None:
    """Another entity, another project, and back: no result is missing, none is there twice."""
    training.train()
    training.train()
    assert run_once(training)[0] == 0
    assert rows(server) == [[10, 20]]
    training.environment["WANDB_ENTITY"] = "others"
    code, said = run_once(training)
    assert code == 0
    assert "wandb: all is now in " in said
    assert "tensorboard: all is now" not in said
    assert rows(server) == [[10, 20]]
    assert rows(server, "others") == [[10, 20]]
    change(training, tracker_project_name="renamed")
    curve = training.curve.parents[1] / "renamed/clipwatch"
    curve.parent.mkdir()
    code, said = run_once(training)
    assert code == 0
    assert f"tensorboard: all is now in {curve}" in said
    assert rows(server, "others", "renamed") == [[10, 20]]
    assert points(curve) == [10, 20]
    assert not training.curve.exists()
    change(training, tracker_project_name="kills")
    del training.environment["WANDB_ENTITY"]
    training.train()
    assert run_once(training)[0] == 0
    assert rows(server) == [[10, 20, 30]]
    assert rows(server, "others") == [[10, 20]]
    assert points(training.curve) == [10, 20, 30]


@pytest.mark.thorough
def test_a_tracker_that_is_no_longer_named_is_owed_nothing(
    training: Training, server: FakeWandb
) -> None:
    """It may be down for good; named again, it gets what it lacks."""
    training.environment["WANDB_API_KEY"] = WRONG_KEY
    training.train()
    assert run_once(training)[0] == 1
    change(training, report_to="tensorboard")
    assert run_once(training)[0] == 0
    assert problems(training) == []
    change(training, report_to="wandb")
    training.environment["WANDB_API_KEY"] = KEY
    assert run_once(training)[0] == 0
    assert rows(server) == [[10]]


@pytest.mark.thorough
def test_a_state_directory_of_an_earlier_version_publishes_nothing_again(
    training: Training, server: FakeWandb
) -> None:
    """Its log tells no destinations; what it says is published is, where the settings point."""
    training.train()
    assert run_once(training)[0] == 0
    forget_destinations(log_file(training.folder / "state"))
    server.requests.clear()
    code, said = run_once(training)
    assert code == 0
    assert "published" not in said.replace("1 published", "")
    assert "all is now" not in said
    assert not {"UpsertBucket", "history", "file_stream"} & set(server.requests)
    training.environment["WANDB_ENTITY"] = "others"
    assert run_once(training)[0] == 0
    assert rows(server, "others") == [[10]]


def forget_destinations(log: Path) -> None:
    """Write a log anew as a version that knew no destinations would have written it."""
    earlier = log.rename(log.with_name("told.db"))
    told = (Published, PublishFailed, AdviceSent, AdviceNotSent)
    with Journal(earlier) as before, Journal(log) as after:
        for it in before.read():
            event = it.event
            if isinstance(event, DestinationChanged):
                continue
            if isinstance(event, told):
                event = replace(event, destination="", protocol="")
            after.append(it.run, it.stream, after.version(it.stream), [event])
