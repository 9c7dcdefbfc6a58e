"""`start --log-format json`: each line is an object, and nothing is silent for long."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest

from clipwatch.domain.events import CheckpointFound, Event, ImageScore, ImagesScored, PublishFailed
from clipwatch.loop.console import QUIET_SECONDS, TICK_SECONDS
from clipwatch.loop.objects import ObjectConsole

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


class Machine:
    """Reads what is said, and has the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._file = StringIO()
        self.console = ObjectConsole(
            self._file, lambda: self.now, lambda: BEGAN + timedelta(seconds=self.now)
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Everything so far."""
        return [json.loads(line) for line in self._file.getvalue().splitlines()]


@pytest.fixture
def machine() -> Machine:
    """A machine that listens."""
    return Machine()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            CheckpointFound(5, "checkpoint-5", "/o", "no .guard\nin it"),
            "checkpoint-5: not complete",
        ),
        (ImagesScored("checkpoint-5/d/p", (ImageScore("a", 0, 1, {"": 0.3}),)), "1 image scored"),
        (PublishFailed("wandb", "error 503", 1, BEGAN), "wandb: error 503"),
    ],
)
def test_an_event_is_told_with_its_fields(machine: Machine, event: Event, text: str) -> None:
    """Those that people are not told, too; the keys are the documented ones."""
    machine.console.run = "run-1"
    machine.console.happened(event)
    (line,) = machine.lines
    assert line.keys() == {"time", "run", "event", "fields", "text"}
    assert (line["time"], line["run"]) == ("2026-01-02T00:00:00+00:00", "run-1")
    assert line["event"] == type(event).__name__
    assert line["fields"].keys() == set(event.__slots__)
    assert text in line["text"]


def test_a_remark_is_an_object(machine: Machine) -> None:
    """Whatever is in it, it is one line."""
    machine.console.say("watching\nit: 学習 \x1b[31m")
    assert machine.lines == [
        {
            "time": "2026-01-02T00:00:00+00:00",
            "run": None,
            "event": "Said",
            "fields": {},
            "text": "watching\nit: 学習 \x1b[31m",
        }
    ]


def test_it_is_never_silent_while_something_goes_on(machine: Machine) -> None:
    """By the times of its own lines; when all is done it says nothing more."""
    machine.console.working("checkpoint-5", "loading")
    for second in range(100):
        machine.now = float(second)
        if second == 40:
            machine.console.working("checkpoint-5", "3 of 9 images", 3, 9)
        if second == 70:
            machine.console.rested("checkpoint-5")
        machine.console.tick()
    times = [datetime.fromisoformat(line["time"]) for line in machine.lines]
    gaps = [
        (after - before).total_seconds()
        for before, after in zip([BEGAN, *times], times, strict=False)
    ]
    assert max(gaps) <= QUIET_SECONDS + TICK_SECONDS < 10
    assert BEGAN + timedelta(seconds=60) < times[-1] < BEGAN + timedelta(seconds=70)
    assert {line["event"] for line in machine.lines} == {"Working"}
    assert machine.lines[-1]["fields"] == {
        "what": "checkpoint-5",
        "doing": "3 of 9 images",
        "done": 3,
        "total": 9,
        "seconds": 64,
    }
