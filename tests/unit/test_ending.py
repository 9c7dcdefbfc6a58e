"""When a daemon ends: asked to, with the training; the clocks are the test's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from clipwatch.layouts.exports import EXPORTS
from clipwatch.loop.ending import (
    LAST_SECONDS,
    RESUME_SECONDS,
    STOP_SECONDS,
    Deadlines,
    Left,
    TrainingEnd,
)
from clipwatch.settings.values import Ends

STARTED = 1_000_000.0
SETTLE = 10.0

NOTHING = Left(
    at_work=False, delivering=False, preparing=False, settling=False, queued=False, owed=False
)
SENDING = replace(NOTHING, at_work=True, delivering=True)


@dataclass
class Clock:
    """Both clocks: seconds since the start of the test, and the same as a date."""

    now: float = 0.0

    def today(self) -> float:
        """Return the date."""
        return STARTED + self.now

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def ending(folder: Path, clock: Clock, **ends: object) -> TrainingEnd:
    """Watch for an end."""
    whole = Ends(**{"export": False, "file": "", "idle_seconds": None, **ends})  # type: ignore[arg-type]
    return TrainingEnd(whole, folder, clock, clock.today)


def written(path: Path, when: float) -> None:
    """Write a file at a time of the test."""
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (STARTED + when, STARTED + when))


def test_nobody_asked_is_no_end() -> None:
    """Evaluations go on for ever."""
    deadlines = Deadlines(Clock())
    assert deadlines.evaluating
    assert not deadlines.asked


def test_asked_once_it_drains_then_waits_for_trackers() -> None:
    """Evaluations go on for the time given, trackers for STOP_SECONDS more."""
    clock = Clock()
    deadlines = Deadlines(clock)
    assert deadlines.ask(100) == 100 + STOP_SECONDS
    clock.now = 99
    assert deadlines.evaluating
    clock.now = 100
    assert not deadlines.evaluating
    assert not deadlines.done(SENDING)
    clock.now = 100 + STOP_SECONDS
    assert deadlines.done(SENDING)


def test_asked_without_a_drain_no_evaluation_goes_on() -> None:
    """Trackers have their time all the same."""
    deadlines = Deadlines(Clock())
    assert deadlines.ask(0) == STOP_SECONDS
    assert not deadlines.evaluating
    assert not deadlines.done(SENDING)
    assert deadlines.done(replace(SENDING, delivering=False))


@pytest.mark.parametrize("name", ["at_work", "preparing", "settling", "queued"])
def test_a_drain_waits_for_all_that_may_still_get_a_score(name: str) -> None:
    """Also for the models, and for another attempt; not for a tracker that is down."""
    deadlines = Deadlines(Clock())
    deadlines.ask(100)
    assert deadlines.done(NOTHING)
    assert deadlines.done(replace(NOTHING, owed=True))
    assert not deadlines.done(replace(NOTHING, **{name: True}))


def test_asked_twice_it_is_over() -> None:
    """Whoever asks again does not want to wait."""
    deadlines = Deadlines(Clock())
    deadlines.ask(100)
    assert deadlines.ask(100) == 0
    assert deadlines.done(SENDING)
    assert not deadlines.evaluating


@pytest.mark.parametrize("name", EXPORTS)
def test_a_final_export_ends_a_training(tmp_path: Path, name: str) -> None:
    """Once it is newer than the newest checkpoint and unchanged for the settling time."""
    clock = Clock()
    end = ending(tmp_path, clock, export=True)
    clock.now = 60
    assert not end.look(STARTED + 50, SETTLE)
    written(tmp_path / name, 58)
    assert not end.look(STARTED + 50, SETTLE)
    clock.now = 68
    assert end.look(STARTED + 50, SETTLE) == "its final model is there"
    assert not end.look(STARTED + 59, SETTLE), "a newer checkpoint: it went on"


@pytest.mark.parametrize(
    ("numbered", "name"),
    [
        ("art-step00000500.safetensors", "art.safetensors"),
        ("art-000002.safetensors", "art.safetensors"),
        ("art-000002/model_index.json", "art/model_index.json"),
        ("my_lora_v1_000000500.safetensors", "my_lora_v1.safetensors"),
    ],
)
def test_the_one_without_a_number_ends_a_training(tmp_path: Path, numbered: str, name: str) -> None:
    """sd-scripts, musubi-tuner and ai-toolkit write it last; one of another name tells nothing."""
    clock = Clock()
    end = ending(tmp_path, clock, export=True)
    clock.now = 70
    written(tmp_path / numbered, 50)
    written(tmp_path / "another.safetensors", 55)
    assert not end.look(STARTED + 50, SETTLE)
    written(tmp_path / name, 55)
    assert end.look(STARTED + 55, SETTLE) == "its final model is there"


def test_an_export_from_before_our_start_may_be_an_earlier_trainings(tmp_path: Path) -> None:
    """It counts once the training had half an hour to show that it was resumed."""
    written(tmp_path / EXPORTS[0], -5)
    clock = Clock()
    end = ending(tmp_path, clock, export=True)
    clock.now = RESUME_SECONDS - 1
    assert not end.look(0, SETTLE)
    end.news()
    clock.now = RESUME_SECONDS + 1
    assert not end.look(0, SETTLE), "it was resumed"
    clock.now = 2 * RESUME_SECONDS
    assert end.look(0, SETTLE)


def test_a_file_ends_a_training(tmp_path: Path) -> None:
    """Its name counts from the output directory; an absolute one is taken as it is."""
    clock = Clock()
    ends = [ending(tmp_path, clock, file=name) for name in ("done", str(tmp_path / "done"))]
    clock.now = 1
    assert [end.look(0, SETTLE) for end in ends] == ["", ""]
    written(tmp_path / "done", 0.5)
    assert [end.look(0, SETTLE) for end in ends] == [f"{tmp_path / 'done'} is there"] * 2


def test_a_file_from_before_our_start_counts_later(tmp_path: Path) -> None:
    """It is treated as an old export is."""
    written(tmp_path / "done", -5)
    clock = Clock()
    end = ending(tmp_path, clock, file="done")
    assert not end.look(0, SETTLE)
    clock.now = RESUME_SECONDS
    assert end.look(0, SETTLE)


def test_idleness_ends_a_training(tmp_path: Path) -> None:
    """Counted from the last thing that the training did, or from our start."""
    clock = Clock()
    end = ending(tmp_path, clock, idle_seconds=90.0)
    clock.now = 60
    end.news()
    clock.now = 149
    assert not end.look(0, SETTLE)
    clock.now = 150
    assert end.look(0, SETTLE) == "nothing new came for 90 s"


def test_failed_work_is_waited_for_an_hour_after_the_end(tmp_path: Path) -> None:
    """And anew when the training went on in between."""
    clock = Clock()
    end = ending(tmp_path, clock, idle_seconds=10.0)
    assert not end.waited
    clock.now = 10
    assert end.look(0, SETTLE)
    clock.now = 10 + LAST_SECONDS - 1
    assert not end.waited
    clock.now += 1
    assert end.waited
    end.news()
    assert not end.look(0, SETTLE)
    assert not end.waited
