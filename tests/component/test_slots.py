"""Slots: who has which, who waits for which, and the evaluators that run in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.executors import named
from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Reply
from clipwatch.gpus import Gpu
from clipwatch.kit.errors import SettingsError
from clipwatch.loop.slots import Heard, Pool, Seat
from clipwatch.results import view
from clipwatch.settings import Settings
from loop_kit import states, until
from world import ScriptedEvaluator, World, checkpoint, settings

ONE, TWO = Slot("one", "cpu"), Slot("two", "cpu")


class Elsewhere:
    """An executor of two slots, in memory; `refusal` may be set, as may what it reads."""

    def __init__(self, evaluator: Callable[[Callable[[Reply], None]], EvaluatorHandle]) -> None:
        self.evaluator = evaluator
        self.started: list[Slot] = []
        self.refusal: Refusal | None = None
        self.shared: Path | None = None
        self.asked = 0

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return both."""
        self.asked += 1
        return self.refusal or (TWO, ONE)

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start one that follows a script."""
        self.started.append(slot)
        return self.evaluator(receive)

    def reads(self, path: Path) -> bool:
        """Whether it lies in the shared folder, if there is one."""
        return self.shared is None or path.is_relative_to(self.shared)


# --- the pool -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["lend", "back", "off"]))))
def test_a_slot_is_one_runs_at_a_time_and_nobody_is_passed_over(
    steps: list[tuple[str, str]],
) -> None:
    """Whatever runs do: two slots are never three runs', and who asked first is served first."""
    pool, lent, waiting = Pool(), dict[str, Slot](), list[str]()
    for run, what in steps:
        if what == "back":
            pool.give_back(run)
            lent.pop(run, None)
        elif what == "off":
            pool.withdraw(run)
            waiting = [it for it in waiting if it != run]
        elif run not in lent:
            free = 2 - len(lent)
            slot = pool.lend(run, (ONE, TWO))
            assert (slot is not None) == (free > 0 and [*waiting, run][0] == run)
            assert slot not in lent.values()
            if slot is not None:
                lent[run] = slot
                waiting = [it for it in waiting if it != run]
            elif run not in waiting:
                waiting.append(run)
        for it in "abc":
            assert pool.contested(it) == (it in lent and len(waiting) > 2 - len(lent))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["lend", "one", "off"]))))
def test_who_has_none_comes_before_who_wants_another(steps: list[tuple[str, str]]) -> None:
    """A slot is one run's; nobody gets a second one while a run waits for its first."""
    pool, slots = Pool(), (ONE, TWO, Slot("three", "cpu"))
    lent, waiting = dict[str, list[Slot]](), set[str]()
    for run, what in steps:
        own = lent.setdefault(run, [])
        if what == "one":
            if own:
                pool.give_back(run, own.pop().name)
        elif what == "off":
            pool.withdraw(run)
            waiting.discard(run)
        elif slot := pool.lend(run, slots):
            assert slot not in [it for had in lent.values() for it in had]
            assert not (own and waiting - {run})
            own.append(slot)
            waiting.discard(run)
        elif not own:
            waiting.add(run)
        waiting = {it for it in waiting if not lent.get(it)}
    assert sum(map(len, lent.values())) <= 3


def test_an_idle_slot_goes_to_who_could_use_another() -> None:
    """One that is at work stays with its run; without any use for it, it is given up."""
    pool = Pool()
    assert pool.lend("a", (ONE, TWO)) == ONE
    assert pool.lend("b", (ONE, TWO)) == TWO
    assert pool.lend("a", (ONE, TWO)) is None
    assert not pool.due("a")
    assert not pool.contested("b")
    assert pool.contested("b", "two", idle=True)
    assert not pool.contested("a", idle=True)
    pool.give_back("b", "two")
    assert pool.due("a")
    assert pool.lend("a", (ONE, TWO)) == TWO
    assert pool.lend("b", (ONE, TWO)) is None
    assert pool.contested("a", "one")
    pool.give_back("a", "one")
    assert not pool.contested("a", "two")  # the other one will do
    assert pool.lend("a", (ONE, TWO)) is None
    assert pool.lend("b", (ONE, TWO)) == ONE


def test_who_wanted_another_and_has_none_any_more_waits_for_its_turn() -> None:
    """It gave its only slot to one that waited; the others, who have no end, make room for it."""
    pool = Pool()
    assert pool.lend("a", (ONE, TWO)) == ONE
    assert pool.lend("b", (ONE, TWO)) == TWO
    assert pool.lend("a", (ONE, TWO)) is None
    assert pool.lend("c", (ONE, TWO)) is None
    assert pool.contested("a")
    pool.give_back("a", "one")
    assert pool.lend("c", (ONE, TWO)) == ONE
    assert pool.contested("b")
    pool.give_back("b", "two")
    assert pool.lend("b", (ONE, TWO)) is None
    assert pool.lend("a", (ONE, TWO)) == TWO


def test_who_waits_wakes_the_loop_once() -> None:
    """When it begins to wait, so that an idle holder may let go, and when a slot is free again."""
    wakes: list[None] = []
    pool = Pool(lambda: wakes.append(None))
    assert pool.lend("a", (ONE,)) == ONE
    assert not wakes
    assert pool.lend("b", (ONE,)) is pool.lend("b", (ONE,)) is None
    assert len(wakes) == 1
    assert not pool.due("b")
    pool.give_back("a")
    assert len(wakes) == 2
    assert pool.due("b")
    assert pool.lend("a", (ONE, TWO)) == TWO
    assert pool.lend("b", (ONE,)) == ONE


def test_of_those_who_have_a_slot_only_who_does_not_use_it_is_asked_for_it() -> None:
    """A hundred that are at work need no turn because one more waits; who is next has one."""
    pool = Pool()
    assert pool.lend("a", (ONE, TWO)) == ONE
    assert pool.lend("b", (ONE, TWO)) == TWO
    for run in "cd":
        assert pool.lend(run, (ONE, TWO)) is None
    assert pool.stirred(lambda _: False) == set()
    assert pool.stirred(lambda run: run == "a") == {"a"}
    pool.give_back("b")
    assert pool.stirred(lambda _: False) == {"c"}
    assert pool.stirred(lambda _: True) == {"a", "c"}  # for d


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(["lend", "back", "off", "up"]),
            st.sampled_from([(ONE,), (TWO,), (ONE, TWO)]),
        )
    )
)
def test_whoever_may_have_a_slot_is_stirred(steps: list[tuple[str, str, tuple[Slot, ...]]]) -> None:
    """Whatever runs do: nobody whose turn it is sleeps, and nobody else is woken."""
    pool = Pool()
    for run, what, slots in steps:
        if what == "lend":
            pool.lend(run, slots)
        elif what == "back":
            pool.give_back(run)
        elif what == "off":
            pool.withdraw(run)
        else:
            pool.rank(run, 1)
        wanting = {*pool._waiting, *pool._wishing}
        assert pool.stirred(lambda _: False) == {it for it in wanting if pool.due(it)}
        holders = {it for it in "abcd" if pool.contested(it, idle=True)}
        assert pool.stirred(lambda _: True) == {it for it in wanting if pool.due(it)} | holders


# --- a run's place --------------------------------------------------------------------------------


def seat(run: str, executor: Executor, pool: Pool, heard: list[Heard]) -> Seat:
    """Return a place that notes what it hears."""
    return Seat(run, executor, pool, heard.append)


def test_an_evaluator_is_ended_before_its_slot_is_given_back() -> None:
    """And one that cannot be started leaves the slot free."""
    pool, heard = Pool(), list[Heard]()
    executor = Elsewhere(ScriptedEvaluator)
    first, second = seat("a", executor, pool, heard), seat("b", executor, pool, heard)
    assert first.take() is second.take() is None
    assert executor.started == [TWO, ONE]
    evaluator = first.evaluator
    assert evaluator is not None
    first.leave()
    assert not evaluator.alive
    assert first.slot is None
    executor.evaluator = no_process
    with pytest.raises(OSError, match="no more"):
        first.take()
    executor.evaluator = ScriptedEvaluator
    assert seat("c", executor, pool, heard).take() is None
    assert executor.started[-1] == TWO


def no_process(_: Callable[[Reply], None]) -> EvaluatorHandle:
    """Start nothing."""
    raise OSError("no more processes")


def test_who_waits_does_not_ask_the_machine_again() -> None:
    """To ask a driver takes long: only when its turn has come."""
    pool, heard = Pool(), list[Heard]()
    executor = Elsewhere(ScriptedEvaluator)
    places = [seat(name, executor, pool, heard) for name in "abc"]
    for _ in range(3):
        for place in places:
            place.take()
    assert executor.asked == 3
    assert places[2].evaluator is None
    places[0].leave()
    places[2].take()
    assert executor.asked == 4
    assert places[2].slot == TWO


def test_the_words_of_one_that_was_ended_count_no_more() -> None:
    """Each evaluator of a run has a number."""
    pool, heard = Pool(), list[Heard]()
    place = seat("a", Elsewhere(ScriptedEvaluator), pool, heard)
    place.take()
    assert place.current(Heard(1, Loaded({})))
    place.leave()
    assert not place.current(Heard(1, Loaded({})))
    place.take()
    assert not place.current(Heard(1, Loaded({})))
    assert place.current(Heard(2, Finished(0, 0.0)))


# --- executors ------------------------------------------------------------------------------------


def test_every_gpu_that_may_be_used_is_a_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they would be taken, by the name under which the child is shown it."""
    gpus = (Gpu(1, "GPU-b", "NVIDIA H100", 80, 70), Gpu(0, "GPU-a", "NVIDIA A10", 24, 0))
    monkeypatch.setattr("clipwatch.executors.local.usable_gpus", lambda _: gpus)
    slots = LocalExecutor(settings(tmp_path, device="cuda")).slots()
    assert not isinstance(slots, Refusal)
    assert [(it.name, it.device, it.gpu, it.free_bytes) for it in slots] == [
        ("GPU-b", "cuda", "GPU-b", 70),
        ("GPU-a", "cuda", "GPU-a", None),  # 0 stands for a driver that does not tell
    ]
    assert slots[0].title == "GPU 1 (NVIDIA H100, GPU-b)"


def test_the_processor_is_one_slot(tmp_path: Path) -> None:
    """It needs no title, and everything here can be read there."""
    executor = named.load(settings(tmp_path))
    slots = executor.slots()
    assert not isinstance(slots, Refusal)
    assert [(it.name, it.device, it.gpu, it.title) for it in slots] == [("cpu", "cpu", "", "")]
    assert executor.reads(tmp_path)


def test_evaluators_of_equal_settings_may_take_each_others_place(tmp_path: Path) -> None:
    """So that one goes from run to run; with other devices or memory each starts its own."""

    def kin(name: str, **changes: object) -> object:
        (tmp_path / name).mkdir(exist_ok=True)
        return LocalExecutor(settings(tmp_path / name, **changes)).kin

    assert kin("a") == kin("b")
    assert kin("a", device="cpu,cpu") == kin("b", device="cpu,cpu") != kin("b")
    assert kin("a", batch_size=2) != kin("b")


def test_an_executor_that_is_not_installed_is_told(tmp_path: Path) -> None:
    """With those that are, when the settings are read; one whose package lacks when it is made."""
    with pytest.raises(SettingsError, match=r"executor.*must be one of local"):
        settings(tmp_path, executor="slurm")
    plain = settings(tmp_path)
    gone = replace(plain, compute=replace(plain.compute, executor="slurm"))
    with pytest.raises(SettingsError, match="unknown executor 'slurm'"):
        named.load(gone)


def test_a_reload_that_names_what_cannot_be_made_leaves_the_old_executor(tmp_path: Path) -> None:
    """It is told in one line, and the daemon goes on."""
    world = World(tmp_path)
    executor = Elsewhere(ScriptedEvaluator)
    made: list[Executor] = []

    def make(_: Settings) -> Executor:
        if made:
            raise SettingsError("no cluster at ray://nowhere", key="executor")
        made.append(executor)
        return executor

    world.executor = make
    with world.live() as supervisor:
        supervisor.reload()
        until(lambda: any("settings not reloaded" in line for line in world.said))
        checkpoint(world.output, 1)
        until(lambda: states(world) == {1: "published"})
    assert executor.started == [TWO]


def test_a_run_evaluates_where_its_executor_says(tmp_path: Path) -> None:
    """The best slot is taken, and every request goes to it."""
    world = World(tmp_path)

    def note(request: Evaluate) -> None:
        world.requests.append(request)

    executor = Elsewhere(lambda receive: ScriptedEvaluator(receive, note))
    world.executor = lambda _: executor
    for step in (1, 2):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    assert executor.started == [TWO]
    assert [it.device for it in world.requests] == ["cpu", "cpu"]
    assert states(world) == {1: "published", 2: "published"}


def test_a_refusal_of_an_executor_is_told_and_waited_for(tmp_path: Path) -> None:
    """As one of this machine's: it is no fault of the checkpoint."""
    world = World(tmp_path)
    executor = Elsewhere(ScriptedEvaluator)
    executor.refusal = Refusal("all nodes are taken", "wait")
    world.executor = lambda _: executor
    checkpoint(world.output, 1)
    assert world.once() == 1
    assert "evaluations wait: all nodes are taken: wait" in world.said
    (failed,) = world.run.evaluations.values()
    assert (failed.kind, failed.reason) == ("device", "all nodes are taken: wait")
    executor.refusal = None
    assert world.once() == 0


def test_what_cannot_be_read_there_is_told(tmp_path: Path) -> None:
    """The line names the place and a way out; nothing is asked of an evaluator."""
    world = World(tmp_path, max_attempts=1)
    executor = Elsewhere(ScriptedEvaluator)
    executor.shared = tmp_path / "shared"
    world.executor = lambda _: executor
    folder = checkpoint(world.output, 1)
    assert world.once() == 1
    assert view.rows(world.run)[0].reason == (
        f"{folder} cannot be read where evaluations run: set stage to copy, and state_dir to a "
        "folder that is seen there"
    )


def test_an_executor_of_a_third_party_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file and an entry point in whatever is installed; it is made with the settings."""
    package = tmp_path / "site"
    (package / "cluster-1.dist-info").mkdir(parents=True)
    (package / "cluster-1.dist-info" / "METADATA").write_text("Name: cluster\nVersion: 1\n")
    (package / "cluster-1.dist-info" / "entry_points.txt").write_text(
        "[clipwatch.executors]\ncluster = cluster:Cluster\n"
    )
    (package / "cluster.py").write_text(
        "from clipwatch.executors.base import Slot\n"
        "class Cluster:\n"
        "    def __init__(self, settings):\n"
        "        self.device = settings.compute.device\n"
        "    def slots(self):\n"
        "        return (Slot('node 1', self.device),)\n"
    )
    monkeypatch.syspath_prepend(package)
    made = named.load(settings(tmp_path, executor="cluster"))
    assert made.slots() == (Slot("node 1", "cpu"),)


# --- by priority, and in turns --------------------------------------------------------------------


def turns(ranks: dict[str, int], each: int) -> list[str]:
    """Return in which order runs that want a slot all the time get the only one."""
    pool, left, order, holder = Pool(), dict.fromkeys(ranks, each), list[str](), ""
    for run, rank in ranks.items():
        pool.rank(run, rank)
    while any(left.values()):
        for run in ranks:
            if left[run] and run != holder and pool.lend(run, (ONE,)):
                holder = run
        if left.get(holder):
            order.append(holder)
            left[holder] -= 1
        if pool.contested(holder, idle=not left[holder]):
            pool.give_back(holder)
            holder = ""
    return order


def test_equals_take_turns() -> None:
    """Ten runs: none gets a slot for the second time before each that waits had it once."""
    order = turns(dict.fromkeys("abcdefghij", 0), 3)
    assert order == list("abcdefghij") * 3


def test_the_higher_goes_first_and_the_lower_has_what_it_leaves() -> None:
    """A low one starves only while higher ones want it; among equals it is by turns."""
    order = turns({"low": -1, "a": 0, "high": 5, "b": 0}, 3)
    assert order == ["low", *["high"] * 3, "a", "b", "a", "b", "a", "b", "low", "low"]


def test_an_idle_holder_leaves_its_slot_to_a_lower_one() -> None:
    """What it could use itself it keeps; a changed priority counts at once."""
    pool = Pool()
    pool.rank("high", 1)
    assert pool.lend("high", (ONE,)) == ONE
    assert pool.lend("low", (ONE,)) is None
    assert not pool.contested("high")
    assert pool.contested("high", idle=True)
    pool.rank("low", 1)
    assert pool.contested("high")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(-1, 1), min_size=2),
    st.integers(1, 4),
)
def test_nobody_of_a_priority_is_passed_over(ranks: dict[str, int], each: int) -> None:
    """Whatever the priorities, of equals none is ahead of another by more than one."""
    order = turns(ranks, each)
    count = dict.fromkeys(ranks, 0)
    for run in order:
        count[run] += 1
        alike = [count[it] for it in ranks if ranks[it] == ranks[run]]
        assert max(alike) - min(alike) <= 1
    assert set(count.values()) == {each}
