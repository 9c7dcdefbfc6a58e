"""One run on several slots: several checkpoints at once, or one that is shared out."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    ImageScore,
)
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.names import evaluation_stream
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
from clipwatch.loop.slots import Heard
from clipwatch.loop.supervisor import Supervisor
from clipwatch.statistics import Summary
from loop_kit import states, until
from places_kit import Places, Replies, batches, scored, step_of, wanted, world_of
from world import World, checkpoint


def of(world: World, kind: type) -> list[object]:
    """Return the events of a type, in order."""
    return [it.event for it in world.logged if isinstance(it.event, kind)]


def meeting(count: int) -> threading.Barrier:
    """Return where evaluators wait for each other: who is not there fails the test."""
    return threading.Barrier(count, timeout=60)


def test_as_many_checkpoints_as_slots_are_evaluated_at_once(tmp_path: Path) -> None:
    """Each by one evaluator, newest first, and each is whole; the last one is shared out."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2, 3)
    together = meeting(2)

    def script(_: str, request: Evaluate) -> Iterable[Reply] | None:
        if step_of(request) > 1:
            together.wait()
        return None

    places.script = script
    assert world.once() == 0
    assert sorted(places.steps[:2]) == [("one", 3), ("two", 2)]
    assert [len(it.done) for _, it in places.asked[:2]] == [0, 0]
    assert {step for _, step in places.steps[2:]} == {1}
    assert sorted(scored(world)) == sorted(3 * wanted(places.asked[0][1]))
    assert set(states(world).values()) == {"published"}
    assert sorted(step for step, _ in world.rows().values()) == [1, 2, 3]


def test_one_checkpoint_is_shared_out(tmp_path: Path) -> None:
    """Every other prompt goes to the other slot; the log tells of one evaluation."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 7)
    together = meeting(2)

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        yield Working("importing torch")
        together.wait()
        yield from batches(request, seconds=6.0)

    places.script = script
    assert world.once() == 0
    first, second = (wanted(request) for _, request in places.asked)
    every = [(it.id, n) for it, n, _ in places.asked[0][1].protocol.images()]
    assert sorted([first, second]) == sorted([every[::2], every[1::2]])
    assert sorted(scored(world)) == sorted(every)
    assert len(of(world, EvaluationStarted)) == 1
    (done,) = of(world, EvaluationCompleted)
    assert isinstance(done, EvaluationCompleted)
    assert (done.seconds, done.phases, done.images) == (6.0, {"load": 1.5}, 32)
    assert {"checkpoint-7: loading on one, 16 of 32 images"} <= set(world.said)
    assert world.said.count("checkpoint-7: 32 images scored, its result follows") == 1


def test_two_at_once_take_half_of_the_time_each(tmp_path: Path) -> None:
    """The seconds of all evaluations add up to those that passed: a queue's end follows of them."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2)
    together = meeting(2)

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        together.wait()
        return batches(request, seconds=8.0)

    places.script = script
    assert world.once() == 0
    seconds = [it.seconds for it in of(world, EvaluationCompleted)]  # type: ignore[attr-defined]
    assert seconds == [4.0, 4.0]


def test_a_few_images_are_not_worth_a_second_load(tmp_path: Path) -> None:
    """Where loading takes longer than a share, one evaluator makes all of them."""
    places = Places("one", "two")
    world = World(tmp_path, slots=2)  # of four prompts
    world.executor = lambda _: places
    checkpoint(world.output, 1)
    assert world.once() == 0
    assert places.steps == [("one", 1)]
    assert [name for name, _ in places.started] == ["one"]


def test_the_base_comes_before_all_others(tmp_path: Path) -> None:
    """Every checkpoint is compared with it, so nothing is begun beside it."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2, baseline=True)
    assert world.once() == 0
    assert {step for _, step in places.steps[:2]} == {0}
    assert sorted(step for _, step in places.steps[2:]) == [1, 2]
    completed = of(world, EvaluationCompleted)
    assert [bool(it.against_base) for it in completed] == [False, True, True]  # type: ignore[attr-defined]


def test_a_slot_that_dies_loses_its_batch_alone(tmp_path: Path) -> None:
    """What it lacks goes to the next free slot; nothing is made twice, and nothing has failed."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    died, together = threading.Event(), meeting(2)

    def script(name: str, request: Evaluate) -> Iterable[Reply]:
        if len(places.asked) <= 2:
            together.wait()
        if name == "two" and not died.is_set():
            yield from islice(batches(request), 3)  # two batches are kept
            died.set()
            yield Failed("killed", "the evaluator was killed by SIGKILL")
        elif len(places.asked) <= 2:
            yield from islice(batches(request), 2)
            until(lambda: len(places.asked) == 3)  # and the other one goes on already
            yield from islice(batches(request), 2, None)
        else:
            yield from batches(request)

    places.script = script
    assert world.once() == 0
    assert not of(world, EvaluationFailed)
    assert sorted(scored(world)) == sorted(set(scored(world)))
    assert len(scored(world)) == 32
    assert [name for name, _ in places.asked][2:] == ["two"]
    assert len(wanted(places.asked[2][1])) == 8
    assert [it.batch_size for _, it in places.asked] == [4, 4, 2]
    told = "checkpoint-1: two: the evaluator was killed by SIGKILL; another slot goes on"
    assert told in world.said
    (done,) = of(world, EvaluationCompleted)
    assert isinstance(done, EvaluationCompleted)
    assert done.images == 24  # of those whose time is known


def test_a_slot_that_makes_nothing_is_not_asked_again(tmp_path: Path) -> None:
    """The other one makes all of it, one share after the other."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)

    def script(name: str, _: Evaluate) -> Iterable[Reply] | None:
        return [Failed("internal", "the driver is lost")] if name == "two" else None

    places.script = script
    assert world.once() == 0
    assert sorted(name for name, _ in places.asked) == ["one", "one", "two"]
    assert not of(world, EvaluationFailed)
    assert len(scored(world)) == 32


def test_a_slot_comes_back_once(tmp_path: Path) -> None:
    """One that dies again and again is left out, and the other one makes the rest."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    begun = threading.Event()

    def script(name: str, request: Evaluate) -> Iterable[Reply]:
        replies = batches(request)
        if name == "two":
            yield from islice(replies, 2)
            yield Failed("killed", "killed by SIGKILL")
        else:
            yield from islice(replies, 2)
            if not begun.is_set():
                begun.set()
                until(lambda: sum("killed by SIGKILL" in it for it in world.said) == 2)
            yield from replies

    places.script = script
    assert world.once() == 0
    assert [name for name, _ in places.asked if name == "two"] == ["two", "two"]
    assert not of(world, EvaluationFailed)
    assert sorted(scored(world)) == sorted(set(scored(world)))
    assert len(scored(world)) == 32


def test_an_evaluation_fails_when_every_slot_has(tmp_path: Path) -> None:
    """Then the rules are those of one slot: the batch is halved."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, batch_size=4)

    def script(_: str, request: Evaluate) -> Iterable[Reply] | None:
        if request.batch_size == 2:
            return None
        return [*islice(batches(request), 1), Failed("killed", "killed by SIGKILL")]

    places.script = script
    assert world.once() == 0
    failed = of(world, EvaluationFailed)
    assert [it.attempt for it in failed] == [1]  # type: ignore[attr-defined]
    assert len(scored(world)) == 32
    assert [it.batch_size for _, it in places.asked] == [4, 4, 2, 2]


def test_a_slot_that_hangs_is_ended_and_another_goes_on(tmp_path: Path) -> None:
    """Each is watched for itself."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, stall_seconds=60)

    def script(name: str, request: Evaluate) -> Replies | None:
        hangs = name == "two" and len(places.asked) <= 2
        return [*islice(batches(request), 2), None] if hangs else None

    places.script = script
    with world.live():
        until(lambda: states(world) == {1: "published"})
    assert not of(world, EvaluationFailed)
    assert len(scored(world)) == 32
    assert any("two: the evaluator showed no sign of life" in it for it in world.said)


def test_what_is_the_checkpoints_own_fault_ends_all_its_shares(tmp_path: Path) -> None:
    """It fails once, what comes of it later does not count, and the next one has both slots."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 2)
    failed = threading.Event()

    def script(name: str, request: Evaluate) -> Iterable[Reply]:
        if step_of(request) == 1:
            yield from batches(request)
        elif name == "two":
            yield Loaded({"device": "script"})
            until(lambda: len(scored(world)) == 4)
            yield Failed("weights", "3 of 9 tensors fit")
        else:
            replies = batches(request)
            yield from islice(replies, 2)
            until(lambda: bool(of(world, EvaluationFailed)))
            failed.set()
            yield from replies

    places.script = script
    with world.live():
        until(lambda: states(world) == {2: "failed"})
        checkpoint(world.output, 1, 1)
        until(lambda: states(world) == {1: "published", 2: "failed"})
    assert failed.is_set()
    (only,) = of(world, EvaluationFailed)
    assert isinstance(only, EvaluationFailed)
    assert (only.kind, only.retry_at) == ("weights", None)
    assert len(scored(world)) == 4 + 32
    assert all(worker.alive is False for _, worker in places.started)  # with the daemon
    assert len(places.started) == 2  # and none of them before


def test_a_checkpoint_that_vanishes_in_hand_is_let_go(tmp_path: Path) -> None:
    """It is left out, whichever slot was the first to see it."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2)

    def script(_: str, request: Evaluate) -> Iterable[Reply] | None:
        if step_of(request) == 1:
            return None
        shutil.rmtree(request.path, ignore_errors=True)
        return [Failed("vanished", "gone")]

    places.script = script
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "discarded"}


def test_enough_is_enough_for_all_shares(tmp_path: Path) -> None:
    """With `precision` all of them together decide, and each ends with its batch."""
    places = Places("one", "two")
    (tmp_path / "more.txt").write_text("\n".join(f"prompt {n}" for n in range(400)))
    world = World(tmp_path, prompts="more.txt", precision=0.2, slots=2)
    world.executor = lambda _: places
    checkpoint(world.output, 1)

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        assert request.stratified
        seeds = {(it.id, n): seed for it, n, seed in request.protocol.images()}
        yield Loaded({"device": "script"})
        for it in wanted(request):
            yield Scored((ImageScore(*it, seeds[it], {"": 0.3}),))
        yield Finished(0, 1.0)

    places.script = script
    assert world.once() == 0
    assert len(places.asked) == 2
    (done,) = of(world, EvaluationCompleted)
    assert isinstance(done, EvaluationCompleted)
    assert done.clip.n == len(scored(world)) < 400


def test_an_import_of_its_result_ends_all_shares(tmp_path: Path) -> None:
    """Another process writes it meanwhile: evaluators are ended, and it is published as it is."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    places.script = lambda _, request: islice(batches(request), 2)
    with world.live():
        until(lambda: world.log.exists() and len(scored(world)) == 8)
        (found,) = world.run.evaluations.values()
        done = EvaluationCompleted(found.id, {"": Summary(0.25, 0.2, 0.3, 0.01, 32)})
        with Journal(world.log) as journal:
            name = world.run.name
            new = (EvaluationImported(found.id, "elsewhere", "its-run"), done)
            Projection(journal).record(name, evaluation_stream(name, found.id), *new)
        until(lambda: not any(worker.alive for _, worker in places.started))
        until(lambda: states(world) == {1: "published"})
    assert [mean for _, mean in world.rows().values()] == [0.25]
    assert len(places.asked) == 2


def test_what_was_imported_before_the_last_word_has_not_failed(tmp_path: Path) -> None:
    """Another run's turn, or another slot's batch, may have shown it before the loop looks."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    places.script = lambda _, request: islice(batches(request), 2)

    def act() -> None:
        (found,) = world.run.evaluations.values()
        done = EvaluationCompleted(found.id, {"": Summary(0.25, 0.2, 0.3, 0.01, 32)})
        with Journal(world.log) as journal:
            name = world.run.name
            new = (EvaluationImported(found.id, "elsewhere", "its-run"), done)
            Projection(journal).record(name, evaluation_stream(name, found.id), *new)
        world.watched._log.refresh()
        for number in (1, 2):
            world.watched.evaluations.heard(Heard(number, Finished(0, 1.0)))

    with world.live() as supervisor:
        until(lambda: world.log.exists() and len(scored(world)) == 8)
        supervisor.soon(act)
        until(lambda: states(world) == {1: "published"})
    assert of(world, EvaluationFailed) == []
    assert not any("images were scored" in it for it in world.said)
    assert not any(worker.alive for _, worker in places.started)


def test_a_restart_in_the_middle_makes_only_what_lacks(tmp_path: Path) -> None:
    """Whichever slots made what is there: the log does not know."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    places.script = lambda name, request: islice(batches(request), 2 if name == "one" else 3)
    with world.live():
        until(lambda: world.log.exists() and len(scored(world)) == 12)
    places.script = lambda *_: None
    assert world.once() == 0
    assert sum(len(wanted(it)) for _, it in places.asked[2:]) == 20
    assert len(places.asked) == 4
    assert sorted(scored(world)) == sorted(set(scored(world)))
    assert len(scored(world)) == 32


def test_another_device_is_written_down_and_another_gpu_is_not(tmp_path: Path) -> None:
    """Two equal GPUs are one kind of evaluation; two unlike ones are not."""
    for name, device in (("like", "A10"), ("unlike", "H100")):
        places = Places("one", "two")
        (tmp_path / name).mkdir()
        world = world_of(tmp_path / name, places, 1)
        together = meeting(2)

        def script(
            slot: str, request: Evaluate, other: str = device, meet: threading.Barrier = together
        ) -> Iterable[Reply]:
            meet.wait()
            told, *rest = batches(request)
            assert isinstance(told, Loaded)
            yield Loaded({"device": "A10" if slot == "one" else other, "gpu": f"GPU-{slot}"})
            yield from rest

        places.script = script
        assert world.once() == 0
        (found,) = world.run.evaluations.values()
        assert (", then " in found.environment["device"]) == (name == "unlike")
        assert ", then " not in found.environment["gpu"] or name == "unlike"


def test_a_run_of_one_slot_is_as_it_was(tmp_path: Path) -> None:
    """Left out, one is used, however many the executor of this machine tells."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2)
    world.settings = World(tmp_path, prompts="many.txt").settings
    assert world.once() == 0
    assert places.steps == [("one", 2), ("one", 1)]
    assert "checkpoint-2: loading on one" in world.said


def test_all_slots_of_another_executor_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many it tells, and those that come later; nobody says a number."""
    monkeypatch.setattr("clipwatch.loop.seats.LOOK_SECONDS", 0.0)
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1, 2, 3)
    compute = replace(world.settings.compute, executor="cluster", slots=None)
    world.settings = replace(world.settings, compute=compute)
    together = meeting(3)

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        if len(places.asked) == 2:
            places.names = ("one", "two", "three")
        if len(places.asked) <= 3:
            together.wait()
        yield from batches(request)

    places.script = script
    assert world.once() == 0
    assert sorted(places.steps) == [("one", 3), ("three", 1), ("two", 2)]


def test_other_slots_after_a_reload(tmp_path: Path) -> None:
    """What is in hand is let go, and goes on where the new settings say."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    one = world.settings
    world.settings = World(tmp_path, prompts="many.txt").settings
    stuck = threading.Event()

    def script(_: str, request: Evaluate) -> Iterable[Reply] | None:
        return None if stuck.is_set() else islice(batches(request), 2)

    places.script = script
    with world.live() as supervisor:
        until(lambda: world.log.exists() and len(scored(world)) == 4)
        stuck.set()
        world.reread = lambda: one
        supervisor.reload()
        until(lambda: states(world) == {1: "published"})
    assert sorted(name for name, _ in places.asked[1:]) == ["one", "two"]
    assert len(scored(world)) == 32


def test_each_slot_is_told_with_what_it_has_in_hand(tmp_path: Path) -> None:
    """For `status` and the live view; nothing is in hand any more in the end."""
    places = Places("one", "two")
    world = world_of(tmp_path, places, 1)
    doing: list[str] = []
    together = meeting(2)

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        yield from islice(batches(request), 2)
        until(lambda: len(scored(world)) == 8)
        if together.wait() == 0:
            doing.append(world.watched._console.doing)
        together.wait()
        yield from islice(batches(request), 2, None)

    places.script = script
    assert world.once() == 0
    assert sorted(doing[0].split("; ")) == ["one: checkpoint-1", "two: checkpoint-1"]
    assert world.watched._console.doing == ""


@pytest.mark.parametrize("busy", [True, False])
def test_a_slot_that_another_run_has_is_left_to_it(tmp_path: Path, *, busy: bool) -> None:
    """One slot is enough; an idle run's is given up to who can use it."""
    places = Places("one", "two")
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.append(world_of(tmp_path / name, places, rescan_seconds=0.1))
    a, b = runs
    go_on = threading.Event()

    def script(_: str, request: Evaluate) -> Iterable[Reply]:
        replies = batches(request)
        yield from islice(replies, 2)
        if "/b/" in request.path and busy:
            go_on.wait(60)
        yield from replies

    places.script = script
    made: list[Supervisor] = []
    thread = threading.Thread(target=lambda: _watch(made, runs))
    thread.start()
    try:
        checkpoint(b.output, 1)
        until(lambda: b.log.exists() and len(scored(b)) >= (8 if busy else 32))
        checkpoint(a.output, 5)
        if busy:  # both slots are at work for the other run
            until(lambda: bool(made[0]._pool._waiting))
            go_on.set()
        until(lambda: states(a) == {5: "published"})
        until(lambda: states(b) == {1: "published"})
    finally:
        go_on.set()
        until(lambda: bool(made))
        made[0].stop()
        thread.join()
    assert len(scored(a)) == len(scored(b)) == 32


def _watch(made: list[Supervisor], runs: list[World]) -> None:
    with ExitStack() as stack:
        supervisor = Supervisor()
        for world in runs:
            world.watch(supervisor, stack.enter_context(Journal(world.log)))
        made.append(supervisor)
        supervisor.run()
