"""Checkpoints that come faster than they are evaluated: in the loop, at a tracker, had back."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.cli import main
from clipwatch.doctor import costs
from clipwatch.domain.behind import WAITING
from clipwatch.domain.events import CheckpointCompleted, CheckpointDiscarded, CheckpointFound
from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.journal import Recorded
from clipwatch.loop.supervisor import Supervisor
from clipwatch.pace import Pace, is_news, line
from clipwatch.results import view
from clipwatch.results.listing import listing
from clipwatch.results.view import Row
from clipwatch.service.health.metrics import of_run
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.tables import CsvTable, JsonlTable
from clipwatch_adapters.tensorboard import TensorBoardTracker
from loop_kit import states, until
from tensorboard_kit import event_file
from world import World, checkpoint, settings


class Slow:
    """A world whose evaluations each wait until they may go on."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.world = World(folder, **changes)
        self.world.script = self._wait
        self._may = threading.Semaphore(0)

    def _wait(self, _: Evaluate) -> list[Reply] | None:
        assert self._may.acquire(timeout=120)
        return None

    def go_on(self, evaluations: int = 1) -> None:
        """Let so many more come to their end."""
        self._may.release(evaluations)

    @contextmanager
    def live(self) -> Iterator[Supervisor]:
        """Watch; at the end nothing waits any more."""
        with self.world.live() as supervisor:
            try:
                yield supervisor
            finally:
                self.go_on(1000)

    def taken_up(self, step: int) -> None:
        """Wait until a step is in hand."""
        until(lambda: self.asked[-1:] == [step])

    def come(self, *steps: int) -> None:
        """Have the trainer save these, each when the one before was seen to be complete."""
        for step in steps:
            name = checkpoint(self.world.output, step, step).name
            until(partial(self._complete, name))

    def _complete(self, name: str) -> bool:
        known = self.world.run.checkpoints.get(name) if self.world.log.exists() else None
        return known is not None and known.state != "partial"

    @property
    def asked(self) -> list[int]:
        """The steps that the evaluator was asked for, in order."""
        return [int(Path(it.path).name.partition("-")[2]) for it in self.world.requests]


def of_state(world: World, *wanted: str) -> list[int]:
    """Return the steps that are in one of these states."""
    return [step for step, state in states(world).items() if state in wanted]


def test_the_newest_is_jumped_to_while_evaluations_are_slow(tmp_path: Path) -> None:
    """What is in hand is finished, then comes the newest; the others are told with the reason."""
    slow = Slow(tmp_path, when_behind="newest")
    world = slow.world
    with slow.live():
        slow.come(1)
        slow.taken_up(1)  # and of which the log does not tell so far
        slow.come(*range(2, 10))
        until(lambda: of_state(world, "discarded") == [2, 3, 4, 5, 6, 7, 8])
        slow.go_on()
        slow.taken_up(9)
        slow.come(10)
        slow.go_on(2)
        until(lambda: of_state(world, "published") == [1, 9, 10])
        left = (
            "checkpoint-2: left out: a newer one was complete before its turn (when_behind newest)"
        )
        until(lambda: any(line.startswith(left) for line in world.said))
    assert slow.asked == [1, 9, 10]
    (told,) = [it for it in listing({"r": world.run}, world.clock()) if it.startswith("left out")]
    assert told.startswith("left out: checkpoint-2, checkpoint-3, checkpoint-4 and 4 more: a newer")
    metrics = {it.name: it.samples[0].value for it in of_run(world.run, world.clock())}
    assert metrics["clipwatch_skipped_checkpoints"] == 7


def test_an_even_spread_waits_while_evaluations_are_slow(tmp_path: Path) -> None:
    """In the end a few between the first and the last are scored, none of them beside another."""
    slow = Slow(tmp_path, when_behind="spread")
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.come(*range(2, 14))
        until(lambda: len(of_state(slow.world, "discarded")) == 11 - WAITING)
        kept = of_state(slow.world, "waiting", "evaluating")
        slow.go_on(20)
        until(lambda: of_state(slow.world, "published") == kept)
    assert kept[0] == 1
    assert kept[-1] == 13
    gaps = [b - a for a, b in pairwise(kept)]
    assert max(gaps) <= 4


def test_one_is_had_back_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    """`retry` puts it into the queue for good; the others stay out, whatever is set then."""
    slow = Slow(tmp_path, when_behind="newest")
    world, log = slow.world, str(tmp_path / "state")
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.come(2, 3, 4, 5)
        until(lambda: of_state(world, "discarded") == [2, 3, 4])
        said = CliRunner().invoke(main, ["retry", "3", "--state-dir", log])
        assert (said.exit_code, said.output) == (0, "checkpoint-3: will be tried again\n")
        slow.come(6)
        slow.go_on(9)
        until(lambda: of_state(world, "published") == [1, 3, 6])
    assert of_state(world, "discarded") == [2, 4, 5]
    again = CliRunner().invoke(main, ["retry", "3", "--state-dir", log])
    assert again.exit_code == 1
    written = len(world.logged)
    world.script = lambda _: None
    for when_behind in ("newest", "wait"):
        world.settings = World(tmp_path, when_behind=when_behind).settings
        with world.live() as supervisor:
            until(lambda: world.watched.eyes.seconds_left > 0)
            told = len(world.said)
            supervisor.reload()
            until(partial(said_since, world, told, "settings reloaded"))
        assert world.once() == 0
    new = [type(it.event).__name__ for it in world.logged[written:]]
    assert set(new) <= {"SettingsChanged"}, new
    assert of_state(world, "published") == [1, 3, 6]


def test_what_becomes_of_its_files_is_no_news_but_other_weights_are(tmp_path: Path) -> None:
    """The trainer may delete what was left out; what it saves there anew goes as any other."""
    slow = Slow(tmp_path, when_behind="newest")
    world = slow.world
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.come(2, 3, 4)
        until(lambda: of_state(world, "discarded") == [2, 3])
        written = len(world.logged)
        shutil.rmtree(world.output / "checkpoint-2")
        checkpoint(world.output, 3, 33)
        until(lambda: sum(left_out(it) for it in world.logged[written:]) == 1)
    told = [it.event for it in world.logged[written:]]
    assert {it.name for it in told if isinstance(it, CheckpointFound | CheckpointCompleted)} <= {
        "checkpoint-3"
    }
    assert of_state(world, "discarded") == [2, 3]
    assert world.run.skipped == 2


def left_out(recorded: Recorded) -> bool:
    """Whether it tells of one that was left out, as newer ones came."""
    event = recorded.event
    return isinstance(event, CheckpointDiscarded) and event.kind == "skipped"


def test_with_once_nothing_is_left_out(tmp_path: Path) -> None:
    """No training runs that one could be behind of; `rank` scores all in the same way."""
    world = World(tmp_path, when_behind="newest")
    for step in range(1, 8):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    assert of_state(world, "published") == [1, 2, 3, 4, 5, 6, 7]


def test_one_goes_at_all_of_its_strengths(tmp_path: Path) -> None:
    """One that has an image at one strength is finished at the others, before an older one."""
    slow = Slow(tmp_path, when_behind="newest", strengths=[0.5, 1.0])
    world = slow.world
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.come(2, 3)
        until(lambda: (2, "discarded") in [(it.step, it.state) for it in rows(world)])
        slow.go_on(9)
        until(lambda: [it.step for it in rows(world) if it.state == "published"] == [1, 1, 3, 3])
    assert [it.step for it in rows(world) if it.state == "discarded"] == [2]


def said_since(world: World, told: int, line: str) -> bool:
    """Whether a line was said behind so many others."""
    return line in world.said[told:]


def rows(world: World) -> list[Row]:
    """Return the rows of the status, none before the run began."""
    return view.rows(world.run) if world.log.exists() else []


def test_what_fails_waits_like_any_other(tmp_path: Path) -> None:
    """A newer one takes its turn, and it is not tried again."""
    world = World(tmp_path, when_behind="newest")
    world.script = lambda it: [Failed("device", "busy")] if it.path.endswith("-1") else None
    with world.live():
        checkpoint(world.output, 1)
        until(lambda: any("busy" in line for line in world.said))
        checkpoint(world.output, 2)
        until(lambda: states(world) == {1: "discarded", 2: "published"})
    (told,) = [it.event for it in world.logged if isinstance(it.event, CheckpointDiscarded)]
    assert told.kind == "skipped"


@pytest.mark.parametrize("when_behind", ["wait", "newest"])
def test_a_tracker_shows_how_many_were_left_out(tmp_path: Path, when_behind: str) -> None:
    """Each result once, with what was left out by then; where all wait no such number."""
    slow = Slow(tmp_path, when_behind=when_behind)
    world = slow.world
    tracker = TensorBoardTracker(make_target(tmp_path))
    world.trackers["tensorboard"] = tracker
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.go_on()
        until(lambda: states(world) == {1: "published"})
        slow.come(2)
        slow.taken_up(2)
        slow.come(3, 4, 5)
        left = [3, 4] if when_behind == "newest" else []
        until(lambda: of_state(world, "discarded") == left)
        slow.go_on(9)
        wanted = [1, 2, 5] if when_behind == "newest" else [1, 2, 3, 4, 5]
        until(lambda: of_state(world, "published") == wanted)
    place = next((tmp_path / "state").rglob("clipwatch/events.out*"))
    found = EventAccumulator(str(place.parent), size_guidance={"scalars": 0}).Reload()
    if when_behind == "wait":
        assert "clipwatch/skipped" not in found.Tags()["scalars"]
        return
    points = [(it.step, it.value) for it in found.Scalars("clipwatch/skipped")]
    assert points == [(1, 0), (2, 2), (5, 2)]
    assert [it.step for it in found.Scalars("clip/mean")] == [1, 2, 5]
    world.script = lambda _: None
    assert world.once() == 0
    again = EventAccumulator(str(place.parent), size_guidance={"scalars": 0}).Reload()
    assert [(it.step, it.value) for it in again.Scalars("clipwatch/skipped")] == points


def test_status_tells_programs_which_they_are(tmp_path: Path) -> None:
    """A flag beside the reason: these can be had back."""
    slow = Slow(tmp_path, when_behind="newest")
    with slow.live():
        slow.come(1)
        slow.taken_up(1)
        slow.come(2, 3)
        until(lambda: of_state(slow.world, "discarded") == [2])
    said = CliRunner().invoke(main, ["status", "--json", "--state-dir", str(tmp_path / "state")])
    (run,) = json.loads(said.stdout)["runs"]
    assert [it["skipped"] for it in run["checkpoints"]] == [False, True, False]
    assert settings(tmp_path, when_behind="spread").evaluating.when_behind == "spread"


@pytest.mark.parametrize(
    ("when_behind", "words"),
    [
        ("newest", "about 1 of 2 checkpoints will be scored, the others are left out"),
        ("spread", "of the others 4 wait, evenly spread, and the rest is left out"),
    ],
)
@pytest.mark.parametrize("limit", [None, 0, 3])
def test_what_will_be_left_out_is_told_before(
    when_behind: str, words: str, limit: int | None
) -> None:
    """Whatever the trainer keeps; doctor warns of nothing that was asked for."""
    slow = Pace(144, 144, 240, 12, 500, 120, limit, behind=when_behind)
    assert f"{words} (when_behind {when_behind}); fewer prompts" in line(slow)
    assert costs.assess(slow, "").verdict == "ok"
    assert costs.assess(replace(slow, behind="wait"), "").verdict == "warn"
    assert is_news(replace(slow, behind="wait"), slow)
    fast = replace(slow, seconds=60.0)
    assert not is_news(replace(fast, behind="wait"), fast)


def test_tables_get_the_number_when_it_comes(tmp_path: Path) -> None:
    """Lines from before have nothing there; a column more makes the file anew, as any does."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200, 300], images=False)
    first, second, third = series.results
    known = replace(series, results=(first, replace(second, skipped=0), replace(third, skipped=7)))
    for table in (CsvTable(target), JsonlTable(target)):
        table.publish(replace(known, results=(first,)), [0])
        table.publish(known, [1, 2])
        assert table.published(known) == {0, 1, 2}
    rows = [*map(json.loads, Path(JsonlTable(target).destination()).read_text().splitlines())]
    assert [it.get("clipwatch/skipped") for it in rows] == [None, 0, 7]
    with Path(CsvTable(target).destination()).open() as file:
        assert [it["clipwatch/skipped"] for it in csv.DictReader(file)] == ["", "0", "7"]


def test_an_earlier_curve_is_gone_on_with_and_not_written_anew(tmp_path: Path) -> None:
    """TensorBoard's file keeps each byte that it has, where the number comes later."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200], images=False)
    first, second = series.results
    tracker = TensorBoardTracker(target)
    tracker.publish(replace(series, results=(first,)), [0])
    before = event_file(Path(tracker.where(series))).read_bytes()
    tracker.publish(replace(series, results=(first, replace(second, skipped=3))), [1])
    assert event_file(Path(tracker.where(series))).read_bytes().startswith(before)
