"""Scores that came later, of kept images: each tracker shows them beside those that it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from clipwatch.results.series import Result, Series
from clipwatch.statistics import Summary
from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.series import START, make_series, make_target
from clipwatch_adapters.shared.told import ids
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb.files import finished_rows
from clipwatch_adapters.wandb.rows import placed
from fake_wandb import FakeWandb
from real_world import points

LATER = START + timedelta(hours=1)


def rescored(series: Series, *seqs: int, name: str = "late") -> Series:
    """Return the series after a scorer has scored kept images of these results."""

    def full(result: Result) -> Result:
        if result.seq not in seqs:
            return result
        mean = 7.0 + result.seq
        scores = {**result.scores, name: Summary(mean, mean - 1, mean + 1, 0.5, 4)}
        at = LATER + timedelta(minutes=result.seq)
        return replace(result, scores=scores, later={**result.later, name: at})

    return replace(series, results=tuple(map(full, series.results)))


def test_memory(tmp_path: Path) -> None:
    """The contract at its simplest: what lacks the later numbers is not held."""
    tracker, series = MemoryTracker(make_target(tmp_path)), make_series(tmp_path, [100, 200])
    tracker.publish(series, [0, 1])
    more = rescored(series, 0)
    assert tracker.published(more) == {1}
    tracker.publish(more, [0])
    assert tracker.published(more) == {0, 1}
    assert [it.mean for it in tracker.later.values()] == [7.0]


def test_tensorboard(tmp_path: Path) -> None:
    """The record of a result takes the numbers in; every point of every curve is there once."""
    tracker, series = TensorBoardTracker(make_target(tmp_path)), make_series(tmp_path, [100, 200])
    tracker.publish(series, [0, 1])
    more = rescored(series, 0)
    assert tracker.published(more) == {1}
    tracker.publish(more, [0])
    assert TensorBoardTracker(make_target(tmp_path)).published(more) == {0, 1}
    curve = Path(tracker.where(series))
    assert points(curve, "scorer_late/mean") == [(100, 7.0)]
    assert [step for step, _ in points(curve, "clip/mean")] == [100, 200]
    all_ = rescored(more, 1)
    tracker.publish(all_, [1])
    assert tracker.published(all_) == {0, 1}
    assert points(curve, "scorer_late/mean") == [(100, 7.0), (200, 8.0)]


def test_rows_of_wandb_keep_their_places(tmp_path: Path) -> None:
    """Whatever comes later: rows stand in the order in which they came to the log."""
    series = make_series(tmp_path, [1, 2, 3])
    first = rescored(replace(series, results=series.results[:2]), 0, 1)
    late = replace(series.results[2], finished=LATER + timedelta(hours=1))
    grown = replace(first, results=(*first.results, late))
    known, more = placed(first.results), placed(rescored(grown, 2).results)
    assert known == {it: more[it] for it in known}
    assert sorted(more.values()) == [1, 2, 3, 4, 5, 6]
    assert len(set(more)) == 6
    assert ids(first.results[0]) == ("clipwatch-0", "clipwatch-0+late")


@pytest.mark.thorough
def test_wandb_online(server: FakeWandb, tmp_path: Path) -> None:
    """A row of its own, at the same step of the training; no row comes twice."""
    tracker, series = WandbTracker(make_target(tmp_path)), make_series(tmp_path, [100, 200])
    tracker.publish(series, [0, 1])
    more = rescored(series, 0, 1)
    assert tracker.published(more) == frozenset()
    tracker.publish(more, [0, 1])
    assert tracker.published(more) == {0, 1}
    rows = server.run.rows
    assert server.run.points == [(100, 100), (200, 200), (201, 100), (202, 200)]
    assert [rows[it].get("scorer_late/mean") for it in range(4)] == [None, None, 7.0, 8.0]
    assert [it for it in range(4) if "clip/mean" in rows[it]] == [0, 1]
    assert server.run.summary["scorer_late/mean"] == 8.0


@pytest.mark.thorough
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another offline run of the same id holds the new rows alone."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    tracker, series = WandbTracker(make_target(tmp_path)), make_series(tmp_path, [100, 200])
    tracker.publish(series, [0, 1])
    more = rescored(series, 0)
    assert tracker.published(more) == {1}
    tracker.publish(more, [0])
    assert tracker.published(more) == {0, 1}
    runs = sorted((Path(tracker.where(series))).glob("offline-run-*"))
    rows = [finished_rows(it) or () for it in runs]
    assert [[row["_step"] for row in own] for own in rows] == [[100, 200], [201]]
    assert "clip/mean" not in rows[1][0]
