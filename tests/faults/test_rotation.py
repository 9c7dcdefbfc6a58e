"""The trainer deletes checkpoints while they wait: what is kept, what is told as gone."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.results import view
from loop_kit import states, until
from world import World, checkpoint, usual

LORA = "pytorch_lora_weights.safetensors"


class Slow:
    """An evaluator that waits with its first checkpoint until it may go on, and then reads it."""

    def __init__(self, world: World) -> None:
        self.go = threading.Event()
        self.read: list[bytes] = []
        world.script = self

    def __call__(self, request: Evaluate) -> list[Reply] | None:
        """Read the weights, as the real one does at this moment."""
        assert self.go.wait(60)
        self.read.append((Path(request.path) / request.files[0].path).read_bytes())
        return None


@pytest.mark.parametrize("stage", ["auto", "pin", "copy"])
def test_what_rotation_takes_from_the_queue_is_evaluated_all_the_same(
    tmp_path: Path, stage: str
) -> None:
    """The checkpoint in hand and the next are kept; both are scored though both are deleted."""
    world = World(tmp_path, stage=stage)
    evaluator = Slow(world)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    wanted = [(world.output / f"checkpoint-{step}" / LORA).read_bytes() for step in (2, 1)]
    with world.live():
        until(lambda: len(world.watched.evaluations.held) == 2 and bool(world.requests))
        for step in (1, 2):
            shutil.rmtree(world.output / f"checkpoint-{step}")
        evaluator.go.set()
        until(lambda: states(world) == {1: "published", 2: "published"})
        assert evaluator.read == wanted
        staged = world.settings.paths.state_dir / "staged"
        until(lambda: not any(path.is_file() for path in staged.rglob("*")))


def test_no_more_than_the_limit_is_kept(tmp_path: Path) -> None:
    """What is further down the queue is lost to rotation, and told so."""
    world = World(tmp_path, stage="auto", stage_limit=1)
    evaluator = Slow(world)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    with world.live():
        until(lambda: bool(world.requests))
        assert len(world.watched.evaluations.held) == 1
        shutil.rmtree(world.output / "checkpoint-1")
        until(lambda: states(world)[1] == "discarded")
        evaluator.go.set()
        until(lambda: states(world) == {1: "discarded", 2: "published"})
    assert "deleted before it was evaluated" in (view.rows(world.run)[0].reason or "")


def test_without_staging_a_deleted_checkpoint_is_told(tmp_path: Path) -> None:
    """`stage: off` keeps nothing, and holds no file of the trainer's."""
    world = World(tmp_path, stage="off")
    evaluator = Slow(world)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    with world.live():
        until(lambda: bool(world.requests))
        shutil.rmtree(world.output / "checkpoint-1")
        until(lambda: states(world)[1] == "discarded")
        evaluator.go.set()
        until(lambda: states(world) == {1: "discarded", 2: "published"})


def test_a_copy_outlives_the_daemon(tmp_path: Path) -> None:
    """Stopped in the middle, the next start goes on with the copy of what is deleted since."""
    world = World(tmp_path, stage="copy")
    checkpoint(world.output, 1)
    world.script = lambda request: usual(request, images=2)  # and never ends
    with world.live():
        until(lambda: states(world) == {1: "evaluating"})
        until(lambda: len(next(iter(world.run.evaluations.values())).done) == 2)
    shutil.rmtree(world.output / "checkpoint-1")
    world.script = lambda _: None
    assert world.once() == 0
    assert states(world) == {1: "published"}
    assert [len(request.done) for request in world.requests] == [0, 2]


def test_a_pin_dies_with_the_daemon_and_the_loss_is_told(tmp_path: Path) -> None:
    """What only a dead process held cannot be evaluated any more."""
    world = World(tmp_path, stage="pin")
    checkpoint(world.output, 1)
    world.script = lambda request: usual(request, images=2)
    with world.live():
        until(lambda: states(world) == {1: "evaluating"})
    shutil.rmtree(world.output / "checkpoint-1")
    assert world.once() == 0
    assert states(world) == {1: "discarded"}


def test_a_checkpoint_saved_again_while_it_is_evaluated_is_evaluated_again(tmp_path: Path) -> None:
    """A pin holds the weights that were found; the new ones get a result of their own."""
    world = World(tmp_path, stage="pin")
    evaluator = Slow(world)
    checkpoint(world.output, 1, 1.0)
    with world.live():
        until(lambda: bool(world.requests))
        weights = [(world.output / "checkpoint-1" / LORA).read_bytes()]
        shutil.rmtree(world.output / "checkpoint-1")
        checkpoint(world.output, 1, 2.0)
        weights += [(world.output / "checkpoint-1" / LORA).read_bytes()]
        evaluator.go.set()
        until(lambda: len(world.rows()) == 2)
    assert evaluator.read == weights
    assert [step for step, _ in world.rows().values()] == [1, 1]


def test_a_copy_is_kept_while_its_checkpoint_waits_for_another_attempt(tmp_path: Path) -> None:
    """A failure that may pass does not let go of what rotation has taken meanwhile."""
    world = World(tmp_path, stage="copy")
    checkpoint(world.output, 1)
    world.script = lambda _: [Failed("model", "the Hub cannot be reached")]
    with world.live():
        until(lambda: bool(world.run.evaluations))
        shutil.rmtree(world.output / "checkpoint-1")
        (world.output / "checkpoint-2").mkdir()
        until(lambda: 2 in states(world))  # so it has looked since
    world.script = lambda _: None
    (world.output / "checkpoint-2").rmdir()
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "discarded"}
