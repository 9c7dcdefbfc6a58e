"""What a run's daemon knows of its log between two turns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationFailed,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    OutputDirMoved,
    RunStarted,
)
from clipwatch.domain.queue import pending
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.loop.run_log import RunLog
from world import Ear

NOW, PROTOCOL = datetime(2026, 1, 2, tzinfo=UTC), "a" * 16
ID = f"checkpoint-1/d1/{PROTOCOL[:8]}"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a log that is open for writing."""
    with Journal(log_file(tmp_path)) as opened:
        yield opened


@pytest.fixture
def log(journal: Journal) -> RunLog:
    """Return that of a run which waits for two checkpoints."""
    known = RunLog(Projection(journal), "r", Ear([]), lambda: None, lambda: NOW, once=True)
    known.record_run(RunStarted("/out", PROTOCOL, (), {}, "0"))
    for step in (1, 2):
        place = (step, f"checkpoint-{step}", f"/out/checkpoint-{step}")
        known.record_run(CheckpointCompleted(*place, "full", "unet", (), f"d{step}"))
    return known


def test_what_waits_is_that_of_the_log_after_each_event(log: RunLog) -> None:
    """It is kept between two turns, and is another when a checkpoint is, or where it lies."""
    assert [it.checkpoint.step for it in log.pending] == [2, 1]
    kept = log.pending
    images = (ImageScore("a", 0, 1, {"": 0.3}),)
    log.record_evaluation(ID, EvaluationStarted(ID, "checkpoint-1", 1, "d1", PROTOCOL, {}))
    assert log.pending == pending(log.run) == kept
    kept = log.pending
    log.record_evaluation(ID, ImagesScored(ID, images))
    assert log.pending is kept
    log.record_run(OutputDirMoved("/elsewhere"))
    assert [it.checkpoint.path for it in log.pending] == [
        "/elsewhere/checkpoint-2",
        "/elsewhere/checkpoint-1",
    ]
    log.record_evaluation(ID, EvaluationFailed(ID, "weights", "none fits", 1, None))
    assert (
        [it.checkpoint.step for it in log.pending] == [2] == [it.checkpoint.step for it in log.due]
    )


def test_nothing_is_asked_of_the_log_for_no_event(
    log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly every turn has none to write."""
    monkeypatch.delattr(Journal, "append")
    log.record_run()
