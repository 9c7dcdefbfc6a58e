"""When nothing is in hand a line tells that all is done, and what is waited for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from clipwatch.executors.messages import Failed, Loaded, Scored
from clipwatch.kit.errors import TrackerRefused
from clipwatch.loop.rest import rest
from clipwatch.testing.memory import MemoryTracker
from loop_kit import until
from world import World, checkpoint


class Refusing(MemoryTracker):
    """Takes nothing."""

    def publish(self, *_: object) -> None:
        """Refuse."""
        raise TrackerRefused("the key is wrong")


def told(world: World, *lacking: str) -> str:
    """Return the line for a run as it is."""
    return rest(world.run, lacking, world.settings)


def test_a_daemon_says_when_it_has_nothing_to_do(tmp_path: Path) -> None:
    """First that none is there, then after each checkpoint that all are done; each time once."""
    world = World(tmp_path)
    with world.live():
        until(lambda: any(line.startswith("no checkpoint there yet") for line in world.said))
        for number, them in enumerate(("the only checkpoint is", "all 2 checkpoints are"), 1):
            checkpoint(world.output, 100 * number)
            line = (
                f"{them} scored, and published to memory; waiting for the "
                f"next one in {world.output}, looked for every 0.2 s at least"
            )
            until(lambda line=line: line in world.said)  # type: ignore[misc]
    assert len([line for line in world.said if "looked for every" in line]) == 3


def test_what_is_still_to_come_is_told_elsewhere(tmp_path: Path) -> None:
    """Nothing while a tracker is tried again: its own line says when."""
    world = World(tmp_path)
    checkpoint(world.output, 100)
    assert world.once() == 0
    assert told(world).startswith("the only checkpoint is scored, and published to memory")
    assert told(world, "memory") == ""
    checkpoint(world.output, 200)
    (world.output / "checkpoint-200/.guard").unlink()
    with world.live():
        until(lambda: "checkpoint-200" in world.run.checkpoints)
    assert told(world) == ""


def test_a_refusing_tracker_is_named(tmp_path: Path) -> None:
    """All is scored, and what waits for a person is said with it."""
    world = World(tmp_path)
    world.trackers["memory"].__class__ = Refusing
    checkpoint(world.output, 100)
    assert world.once() == 1
    assert told(world, "memory").startswith(
        "the only checkpoint is scored, but not published to memory, which waits for a restart; "
    )


def test_what_failed_for_good_is_counted(tmp_path: Path) -> None:
    """Not all are scored then, and nothing claims it."""
    world = World(tmp_path, max_attempts=1)
    world.script = lambda _: [Failed("weights", "they are not finite")]
    checkpoint(world.output, 100)
    assert world.once() == 1
    assert next(iter(world.run.evaluations.values())).given_up
    assert told(world).startswith("1 checkpoint: 1 failed; waiting for the next one in")


def test_answers_without_an_image_are_no_progress(tmp_path: Path) -> None:
    """What fails around them is given up like what answers nothing at all."""
    world = World(tmp_path, max_attempts=2)
    began = datetime.now(UTC)
    world.clock = lambda: datetime.now(UTC) + 3600 * (datetime.now(UTC) - began)
    world.script = lambda _: [Loaded({}), Scored(()), Failed("internal", "made up")]
    checkpoint(world.output, 100)
    with world.live():
        until(lambda: any(it.given_up for it in world.run.evaluations.values()))
    assert sum("made up" in line for line in world.said) == 2
