"""Several runs in one daemon: they share the slots, and nothing else."""

from __future__ import annotations

import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.loop.supervisor import Supervisor
from clipwatch.settings import Settings
from loop_kit import until
from runs_kit import OneSlot, states, watching
from world import World, checkpoint


def worlds(folder: Path, executor: OneSlot, **changes: object) -> list[World]:
    """Return two runs with two checkpoints each."""
    made = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        world = World(folder / name, **changes)
        world.executor = lambda _: executor
        for step in (1, 2):
            checkpoint(world.output, step, step)
        made.append(world)
    return made


@pytest.mark.parametrize("shared", [False, True])
def test_two_runs_and_one_slot_come_to_their_end(tmp_path: Path, *, shared: bool) -> None:
    """Each is scored and published in full, by turns, whether they share a log or not."""
    executor = OneSlot()
    changes = {"state_dir": str(tmp_path / "state")} if shared else {}
    runs = worlds(tmp_path, executor, **changes)
    supervisor = Supervisor(once=True)

    def script(_: Evaluate) -> list[Reply] | None:
        if len(executor.requests) == 1:
            until(lambda: bool(supervisor._pool._waiting))  # until both want it
        return None

    executor.script = script
    with ExitStack() as stack:
        assert watching(supervisor, runs, stack).run() == 0
    assert [states(it) for it in runs] == [{1: "published", 2: "published"}] * 2
    assert [sorted(step for step, _ in it.rows().values()) for it in runs] == [[1, 2]] * 2
    assert sorted(executor.requests) == ["a/1", "a/2", "b/1", "b/2"]
    first, second, third, fourth = (it[0] for it in executor.requests)
    assert first != second != third != fourth  # nobody waits for the other's whole queue
    assert not any(it.alive for it in executor.started)


def test_what_fails_in_one_run_is_the_other_s_no_matter(tmp_path: Path) -> None:
    """An evaluator that dies under one, weights that do not fit: the worst code is the daemon's."""
    executor = OneSlot()
    runs = worlds(tmp_path, executor)

    def script(request: Evaluate) -> list[Reply] | None:
        if "/a/" not in request.path:
            return None
        return [Failed("killed" if request.batch_size > 1 else "weights", "no")]

    executor.script = script
    with ExitStack() as stack:
        assert watching(Supervisor(once=True), runs, stack).run() == 1
    assert [states(it) for it in runs] == [
        {1: "failed", 2: "failed"},
        {1: "published", 2: "published"},
    ]


def test_a_run_that_has_nothing_to_do_leaves_its_slot_to_one_that_has(tmp_path: Path) -> None:
    """It keeps its evaluator for the next checkpoint, until another run asks; a stop ends both."""
    executor = OneSlot()
    runs = worlds(tmp_path, executor, rescan_seconds=1000)
    (tmp_path / "elsewhere").mkdir()
    for step in (1, 2):
        (runs[1].output / f"checkpoint-{step}").rename(tmp_path / f"elsewhere/checkpoint-{step}")
    made: list[Supervisor] = []

    def work() -> None:  # SQLite's connections stay in the thread that made them
        with ExitStack() as stack:
            made.append(watching(Supervisor(), runs, stack))
            made[0].run()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: states(runs[0]) == {1: "published", 2: "published"})
        assert [it.alive for it in executor.started] == [True]
        (tmp_path / "elsewhere/checkpoint-2").rename(runs[1].output / "checkpoint-2")
        until(lambda: states(runs[1]) == {2: "published"})
        assert [it.alive for it in executor.started] == [False, True]
    finally:
        made[0].stop()
        thread.join()
    assert not any(it.alive for it in executor.started)
    assert [it.said[-1] for it in runs] == ["stopping"] * 2


def test_a_run_ends_with_its_training_and_the_other_goes_on(tmp_path: Path) -> None:
    """The daemon ends with the last of them; settings are each run's own."""
    executor = OneSlot()
    runs = worlds(tmp_path, executor, exit_when_done="file:done")

    def end(_: Evaluate) -> list[Reply] | None:
        for world, last in zip(runs, (1, 4), strict=True):
            if len(executor.requests) == last:
                (world.output / "done").touch()
        return None

    executor.script = end
    with ExitStack() as stack:
        assert watching(Supervisor(), runs, stack).run() == 0
    assert [states(it) for it in runs] == [{1: "published", 2: "published"}] * 2


def test_a_run_that_gets_another_executor_does_not_wait_for_the_first_one(tmp_path: Path) -> None:
    """Its slot is another run's for long: what is free elsewhere is taken at once."""
    busy, free, held = OneSlot("busy"), OneSlot("free"), threading.Event()
    first, second = worlds(tmp_path, busy)
    for step in (1, 2):
        shutil.rmtree(second.output / f"checkpoint-{step}")
    second.executor = lambda it: free if it.compute.batch_size == 2 else busy
    second.reread = World(tmp_path / "b", batch_size=2).reread

    def script(_: Evaluate) -> list[Reply] | None:
        held.wait(60)
        return None

    busy.script = script
    made: list[Supervisor] = []

    def work() -> None:
        with ExitStack() as stack:
            made.append(watching(Supervisor(), [first, second], stack))
            made[0].run()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: bool(busy.requests))
        checkpoint(second.output, 1)
        until(lambda: made[0].shared.pool.waiting == (second.watched.name,))
        made[0].reload()
        until(lambda: states(second) == {1: "published"})
        assert busy.requests == ["a/2"]
    finally:
        held.set()
        made[0].stop()
        thread.join()


def test_a_reload_is_each_runs_own(tmp_path: Path) -> None:
    """Both read their settings again; a mistake in one leaves the old ones of that run in force."""
    executor = OneSlot()
    runs = worlds(tmp_path, executor)
    other = World(tmp_path / "b", keep_images=0).settings
    runs[0].reread = lambda: other
    runs[1].reread = lambda: other
    with ExitStack() as stack:
        supervisor = watching(Supervisor(once=True), runs, stack)
        supervisor.reload()
        assert supervisor.run() == 0
    assert any("output_dir: cannot change" in line for line in runs[0].said)
    assert "settings reloaded" in runs[1].said
    kept: list[Settings] = [it.watched.settings for it in runs]
    assert [it.evaluating.keep_images == 0 for it in kept] == [False, True]
