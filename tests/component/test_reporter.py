"""What the outside hears of a run follows the log, and costs a share of the loop's time at most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.domain.state import Run
from clipwatch.service import reporter
from clipwatch.service.health.desk import Desk
from clipwatch.service.reporter import STATUS_SHARE, HealthReporter
from world import settings

COST = 0.05


def test_a_costly_status_waits_and_is_never_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once, then when its share allows it; until then the loop is told to come."""
    now = [1000.0]
    told: list[str] = []

    def summary(run: Run) -> str:
        now[0] += COST
        told.append(run.problem)
        return run.problem

    monkeypatch.setattr(reporter, "summary", summary)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    (tmp_path / "state").mkdir()
    health = HealthReporter(settings(tmp_path), "run", lambda _: None, Desk())
    run = Run("run", "/out", "", (), {}, problem="first")
    health.beat(run, 1)
    assert (health.status, health.seconds_left) == ("first", float("inf"))
    second = replace(run, problem="second")
    health.beat(second, 2)
    health.beat(second, 2)
    assert health.status == "first"
    assert health.seconds_left == pytest.approx(COST / STATUS_SHARE)
    now[0] += health.seconds_left
    health.beat(second, 2)
    assert (health.status, health.seconds_left) == ("second", float("inf"))
    health.beat(second, 2, "the log is locked")
    assert (health.status, health.seconds_left) == ("the log is locked", float("inf"))
    now[0] += COST / STATUS_SHARE
    health.beat(second, 2)
    assert health.status == "second"
    assert told == ["first", "second", "second"]
