"""Yesterday's log, from a backup, beside today's TensorBoard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clipwatch.journal import log_file
from clipwatch.journal.compacting import compact
from clipwatch.tasks.backup import back_up
from clipwatch.tasks.importing import Asked, take_over
from clipwatch_adapters.tensorboard import event_files
from clipwatch_adapters.tensorboard.records import receipt
from fast_world import Training
from tensorboard_kit import event_file
from world import Ear


def shown(training: Training) -> dict[int, bytes]:
    """Return what TensorBoard has of each step, as it was written."""
    found = event_files.records(event_file(training.curve))
    return {it.step: payload for _, payload in found if (it := receipt(payload))}


@pytest.mark.thorough
@pytest.mark.parametrize("compacted", [False, True])
def test_a_log_as_it_was_yesterday_goes_on_beside_todays_trackers(
    tmp_path: Path, compacted: bool
) -> None:
    """What came since stays there and is told; a newer copy brings it back into the log.

    A checkpoint that is gone meanwhile is not lost; so it is with a log that was compacted.
    """
    training, far = Training(tmp_path / "training"), tmp_path / "far"
    for _ in range(3):
        training.train()
    training.finish()
    if compacted:
        compact(log_file(training.state), None, lambda *_: None)
    yesterday = back_up(training.state, far).last
    for _ in range(3):
        training.train()
    training.finish()
    assert back_up(training.state, far).new > 0
    today, results = shown(training), training.results()
    assert list(today) == [10, 20, 30, 40, 50, 60]
    shutil.rmtree(training.state)
    for step in (40, 50):
        shutil.rmtree(training.folder / "output" / f"checkpoint-{step}")
    back_up(far, training.state, yesterday)
    training.finish()
    assert shown(training) == today | {60: shown(training)[60]}
    lacks = {step for step, row in training.results().items() if row[2] is None}
    assert {40, 50}.isdisjoint(training.results().keys() - lacks)
    assert "this log lacks (checkpoint-40" in (training.folder / "said").read_text()
    take_over(training.state, Asked((far,)), Ear([]))
    training.finish()
    assert {it: row[2] for it, row in training.results().items()} == {
        it: row[2] for it, row in results.items()
    }
    training.one_point_a_step()
