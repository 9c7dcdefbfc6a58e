"""A daemon that ends: drained, at once, or with the training; real files, a scripted evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from clipwatch.domain import retries
from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.journal import Journal
from clipwatch.kit.errors import TrackerRefused
from clipwatch.loop.inbox import Look, Reload
from clipwatch.loop.supervisor import Supervisor
from clipwatch.results import view
from clipwatch.results.series import Series
from world import MemoryTracker, World, checkpoint, usual


def to_the_end(world: World, first: Callable[[Supervisor], None] = lambda _: None) -> int:
    """Run a daemon until it ends by itself; `first` is called with the first request."""
    script = world.script

    def scripted(request: Evaluate) -> list[Reply] | None:
        if len(world.requests) == 1:
            first(supervisor)
        return script(request)

    world.script = scripted
    with Journal(world.log) as journal:
        supervisor = world.supervisor(journal, once=False)
        return supervisor.run()


def states(world: World) -> dict[int, str]:
    """Return step → state."""
    return {row.step: row.state for row in view.rows(world.run)}


def filled(folder: Path, *steps: int, **changes: object) -> World:
    """Return a world with checkpoints."""
    world = World(folder, **changes)
    for step in steps:
        checkpoint(world.output, step, step)
    return world


def test_a_drain_finishes_what_is_there(tmp_path: Path) -> None:
    """Asked to stop while it evaluates the first of three, it scores and publishes them all."""
    world = filled(tmp_path, 1, 2, 3, drain_seconds=100)
    assert to_the_end(world, lambda supervisor: supervisor.stop()) == 0
    assert states(world) == dict.fromkeys((1, 2, 3), "published")
    assert (
        "stopping: what is left is evaluated first, for 100 s at most; again ends it at once"
        in (world.said)
    )


def test_a_drain_sees_a_checkpoint_that_came_with_the_order_to_stop(tmp_path: Path) -> None:
    """The last one appears just before the trainer ends, and nobody else would look again."""
    world = filled(tmp_path, 1, drain_seconds=100, watch="poll", rescan_seconds=1000)

    def last(supervisor: Supervisor) -> None:
        checkpoint(world.output, 2, 2)
        supervisor.stop()

    assert to_the_end(world, last) == 0
    assert states(world) == {1: "published", 2: "published"}


def test_a_drain_waits_for_another_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that the training used is free once that has ended."""
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.3,))
    world = filled(tmp_path, 1, drain_seconds=100)
    world.script = lambda _: [Failed("device", "busy")] if len(world.requests) < 3 else None
    assert to_the_end(world, lambda supervisor: supervisor.stop()) == 0
    assert states(world) == {1: "published"}


def test_without_a_drain_evaluations_end_at_once(tmp_path: Path) -> None:
    """What is not done stays in the queue."""
    world = filled(tmp_path, 1, 2)
    world.script = lambda _: []  # never answers
    assert to_the_end(world, lambda supervisor: supervisor.stop()) == 0
    assert states(world) == {1: "waiting", 2: "waiting"}
    assert "stopping" in world.said


def test_a_second_order_ends_a_drain(tmp_path: Path) -> None:
    """Nothing is waited for any more."""
    world = filled(tmp_path, 1, drain_seconds=1000)
    world.script = lambda _: []

    def twice(supervisor: Supervisor) -> None:
        supervisor.stop()
        supervisor.stop()

    assert to_the_end(world, twice) == 0
    assert states(world) == {1: "waiting"}


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """An evaluation that takes longer is left for the next start."""
    world = filled(tmp_path, 1, drain_seconds=0.3)
    world.script = partial(usual, images=0)
    assert to_the_end(world, lambda supervisor: supervisor.stop()) == 0
    assert states(world) == {1: "evaluating"}  # for the log, and so for the next start


def test_it_ends_with_the_training(tmp_path: Path) -> None:
    """When the file is there that marks the end, and everything is published."""
    world = filled(tmp_path, 1, 2, exit_when_done="file:done")
    assert to_the_end(world, lambda _: (world.output / "done").touch()) == 0
    assert states(world) == {1: "published", 2: "published"}
    done = world.output / "done"
    assert f"the training has ended: {done} is there; ending when all is published" in world.said


def test_it_ends_with_the_final_export_once_that_is_newer(tmp_path: Path) -> None:
    """The export of the whole model, after the last checkpoint."""
    world = filled(tmp_path, 1, exit_when_done="export")

    def export(_: Supervisor) -> None:
        (world.output / "pipeline").mkdir()
        (world.output / "pipeline" / "model_index.json").touch()

    assert to_the_end(world, export) == 0
    assert states(world) == {1: "published"}


def test_it_ends_when_nothing_new_comes(tmp_path: Path) -> None:
    """Idleness counts from the last news."""
    world = filled(tmp_path, 1, exit_when_done="idle:0.5")
    assert to_the_end(world) == 0
    assert states(world) == {1: "published"}


def test_a_checkpoint_given_up_is_told_by_the_exit_code(tmp_path: Path) -> None:
    """As with --once."""
    world = filled(tmp_path, 1, exit_when_done="idle:0.2")
    world.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
    assert to_the_end(world) == 1


def test_failed_work_is_tried_again_before_it_ends_with_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that was busy with the training may be free now."""
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.5,))
    world = filled(tmp_path, 1, exit_when_done="idle:0.1")
    world.script = lambda _: [Failed("model", "busy")] if len(world.requests) < 3 else None
    assert to_the_end(world) == 0
    assert len(world.requests) == 3
    assert states(world) == {1: "published"}


class Refusing(MemoryTracker):
    """Takes nothing."""

    def publish(self, series: Series, missing: Sequence[int]) -> None:  # noqa: ARG002 - the interface
        """Refuse."""
        raise TrackerRefused("no key")


def test_a_tracker_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody is there to mend it; the exit code tells, and the log has the scores."""
    world = filled(tmp_path, 1, exit_when_done="idle:0.1")
    memory = world.trackers["memory"]
    assert isinstance(memory, MemoryTracker)
    world.trackers["memory"] = Refusing(memory.target)
    assert to_the_end(world) == 1
    assert states(world) == {1: "scored"}


def test_looks_are_on_time_however_many_messages_come(tmp_path: Path) -> None:
    """A busy evaluator's messages do not keep the loop from looking at the folder."""
    world = World(tmp_path, rescan_seconds=1000)
    with Journal(world.log) as journal:
        supervisor = world.supervisor(journal, once=False)
        supervisor.reload()
        kinds = [type(letter.message) for letter in supervisor._receive()]
        assert kinds == [Reload, Look]
        world.watched.begin()
        supervisor.reload()
        assert [type(letter.message) for letter in supervisor._receive()] == [Reload]
        world.watched.close()
