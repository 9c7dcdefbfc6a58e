"""Images stay as long as somebody may need them, and leave nothing behind."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.queue import vanished
from clipwatch.domain.state import Run
from clipwatch.loop.pruning import prune
from clipwatch.results.reading import images_of
from clipwatch.statistics import Summary

NOW = datetime(2026, 1, 2, tzinfo=UTC)
A, B = "aaaaaaaa", "bbbbbbbb"
DIGEST = "d1" * 8


def id_of(step: int, protocol: str = A) -> str:
    return f"checkpoint-{step}/{DIGEST[:8]}/{protocol}"


def saved(step: int) -> Event:
    name = f"checkpoint-{step}"
    return CheckpointCompleted(step, name, f"/out/{name}", "lora", "", (), DIGEST)


def begun(step: int, protocol: str = A) -> list[Event]:
    place = (f"checkpoint-{step}", step, DIGEST, protocol)
    return [saved(step), EvaluationStarted(id_of(step, protocol), *place, {})]


def scored(step: int, protocol: str = A) -> list[Event]:
    clip = Summary(0.3, 0.1, 0.4, 0.05, 4)
    return [*begun(step, protocol), EvaluationCompleted(id_of(step, protocol), {"": clip})]


def fold(*events: Event) -> Run:
    started = RunStarted("/out", A, (), {}, "0")
    return evolve({}, [("run", event, NOW) for event in (started, *events)])["run"]


def drawn(images: Path, *ids: str) -> None:
    """Have an image of each evaluation."""
    for id_ in ids:
        (images / id_).mkdir(parents=True, exist_ok=True)
        (images / id_ / "a-0.png").touch()


def left(images: Path) -> set[str]:
    """Return the images that are there, and the folders that are empty."""
    return {
        str(it.relative_to(images))
        for it in images.rglob("*")
        if not it.is_dir() or not list(it.iterdir())
    }


def test_the_newest_of_each_protocol_stay_and_those_that_are_owed(tmp_path: Path) -> None:
    """All others go, each with the folders that it alone was in."""
    images = images_of(tmp_path, "run")
    changed = SettingsChanged(B, (), {}, "0")
    run = fold(*scored(1), *scored(2), *scored(3), changed, *scored(4, B), *scored(5, B))
    drawn(images, *(id_ for ids in run.scored.values() for id_ in ids))
    newest = {f"{id_of(3)}/a-0.png", f"{id_of(5, B)}/a-0.png"}
    prune(run, tmp_path, -1, (), ())
    assert len(left(images)) == 5
    prune(run, tmp_path, 1, {id_of(1)}, ())
    assert left(images) == {*newest, f"{id_of(1)}/a-0.png"}
    prune(run, tmp_path, 1, (), ())
    assert left(images) == newest
    prune(run, tmp_path, 0, (), ())
    assert list(images.iterdir()) == []


def test_an_evaluation_without_an_end_leaves_nothing(tmp_path: Path) -> None:
    """Its images stay while it can go on: its weights lie there, or are held; then they go."""
    images = images_of(tmp_path, "run")
    again = EvaluationFailed(id_of(2), "memory", "out of memory", 1, NOW)
    lost = EvaluationFailed(id_of(3), "unreadable", "damaged", 1, None)
    run = fold(*begun(1), *begun(2), again, *begun(3), lost)
    ids = {id_of(step) for step in (1, 2, 3)}
    drawn(images, *ids)
    prune(run, tmp_path, 0, (), ())
    assert left(images) == {f"{id_}/a-0.png" for id_ in ids}
    gone = fold(
        *begun(1), *begun(2), again, *begun(3), lost, *map(vanished, run.checkpoints.values())
    )
    prune(gone, tmp_path, 0, (), {("checkpoint-1", DIGEST)})
    assert left(images) == {f"{id_of(1)}/a-0.png"}
    prune(gone, tmp_path, 0, (), ())
    assert list(images.iterdir()) == []


def test_weights_that_were_replaced_are_no_longer_there(tmp_path: Path) -> None:
    """Another digest under the same name does not keep the images of the first."""
    images = images_of(tmp_path, "run")
    replaced = CheckpointCompleted(1, "checkpoint-1", "/out/checkpoint-1", "lora", "", (), "e" * 16)
    drawn(images, id_of(1))
    prune(fold(*begun(1), replaced), tmp_path, 0, (), ())
    assert list(images.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Folders that the log does not know, and what a link leads to."""
    theirs, images = tmp_path / "theirs", images_of(tmp_path, "run")
    drawn(theirs, id_of(1), id_of(2))
    drawn(images, "mine/own/pictures")
    (images / "checkpoint-1").symlink_to(theirs / "checkpoint-1")
    weights = images / "checkpoint-2" / DIGEST[:8]
    weights.mkdir(parents=True)
    (weights / A).symlink_to(theirs / id_of(2))
    prune(fold(*scored(1), *scored(2)), tmp_path, 0, (), ())
    assert left(theirs) == {f"{id_of(1)}/a-0.png", f"{id_of(2)}/a-0.png"}
    assert "mine/own/pictures/a-0.png" in left(images)
