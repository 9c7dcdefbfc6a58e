"""Many runs in one daemon: found, evaluated by turns, let go; one that fails ends alone."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console as RichConsole

from clipwatch.cli.finding import Finder
from clipwatch.domain.names import run_id
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Reply
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import ClipwatchError, JournalError, LogLocked, SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.objects import ObjectConsole
from clipwatch.loop.overview import overview, together
from clipwatch.loop.roster import Roster
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Looks, Supervisor
from clipwatch.results import view
from clipwatch.service.health.desk import Desk
from clipwatch.service.health.probes import LoopState
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings
from clipwatch.settings.values import Address
from known import Known
from loop_kit import until
from runs_kit import OneSlot, states, watching
from web_kit import get
from world import FreshJudge, ScriptedEvaluator, World, checkpoint


class Heard(Console):
    """Keeps what is said, with the run before it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say_of(self, run: str, text: str) -> None:
        """Keep the line."""
        self.said.append(f"{run}: {text}" if run else text)


class Trainings:
    """A folder of trainings, and a daemon that watches whatever is there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.executor = OneSlot()
        self.refused = ""  # a device that there is not
        self.console = Heard()
        self.supervisor = Supervisor(lasting=True)
        self.finder = Finder((), root, {}, root)
        parts = Parts(make_executor=self._made, judge=FreshJudge(), identities=Known())
        given = (self.supervisor, self.console, self.finder.lost, lambda _: None, parts)
        self.roster = Roster(*given, once=False)
        self.code: int | None = None

    def _made(self, settings: Settings) -> OneSlot:
        if settings.compute.device == self.refused:
            raise SettingsError("it is not there", key="device")
        return self.executor

    def add(self, name: str, steps: tuple[int, ...] = (1,), **own: Any) -> Path:
        """Write a training with its checkpoints; return its configuration."""
        folder = self.root / name
        (folder / "base").mkdir(parents=True, exist_ok=True)
        (folder / "prompts.txt").write_text("a red circle\n")
        for step in steps:
            checkpoint(folder / "output", step, step)
        own = {
            "prompts": "prompts.txt",
            "state_dir": str(self.root / ".state"),
            "device": "cpu",
            "baseline": False,
            "stage": "off",
            "settle_seconds": 0,
            "rescan_seconds": 0.2,
            **own,
        }
        config = {
            "output_dir": "output",
            "pretrained_model_name_or_path": "./base",
            "evaluation_type": "clip",
            "clipwatch": own,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder / "config.json"

    def look(self) -> None:
        """Look for configurations once."""
        news = self.finder.look(self.roster.watched)
        self.supervisor.soon(lambda: self.roster.heed(news))

    def state(self, name: str) -> dict[int, str]:
        """Return step → state of a training."""
        log = log_file(self.root / ".state")
        found = read_state(log).get(run_id(self.root / name / "output")) if log.exists() else None
        return {row.step: row.state for row in view.rows(found)} if found else {}

    def heard(self, text: str) -> bool:
        """Whether something was said."""
        return any(text in line for line in self.console.said)

    def hold(self) -> threading.Event:
        """Have no evaluation come to its end until what is returned is set."""
        held = threading.Event()

        def script(_: Evaluate) -> list[Reply] | None:
            assert held.wait(60)
            return None

        self.executor.script = script
        return held

    @contextmanager
    def live(self) -> Iterator[None]:
        """Have the daemon at work in a thread of its own."""

        def work() -> None:
            self.code = self.supervisor.run()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self.supervisor.stop()
            thread.join()


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    """Return a folder without any training yet."""
    return Trainings(tmp_path)


def test_of_ten_runs_none_gets_its_second_before_each_that_waits_got_one(tmp_path: Path) -> None:
    """Newest first in each, by turns between them, with an evaluator that always answers."""
    executor, runs = OneSlot(), list[World]()
    for name in "abcdefghij":
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, state_dir=str(tmp_path / "state"))
        world.executor = lambda _: executor
        for step in (1, 2, 3):
            checkpoint(world.output, step, step)
        runs.append(world)
    supervisor = Supervisor(once=True)

    def script(_: Evaluate) -> list[Reply] | None:
        if len(executor.requests) == 1:
            until(lambda: len(supervisor.shared.pool.waiting) == 9)
        return None

    executor.script = script
    with ExitStack() as stack:
        assert watching(supervisor, runs, stack).run() == 0
    assert [states(it) for it in runs] == [dict.fromkeys((1, 2, 3), "published")] * 10
    order = [it.split("/") for it in executor.requests]
    for turn, newest in enumerate("321"):
        assert sorted(name for name, _ in order[10 * turn : 10 * turn + 10]) == list("abcdefghij")
        assert {it for _, it in order[10 * turn : 10 * turn + 10]} == {newest}


def test_a_higher_priority_goes_first(tmp_path: Path) -> None:
    """All of its checkpoints, as long as it has some; then the others."""
    executor, runs = OneSlot(), list[World]()
    for name, priority in (("a", 0), ("b", 0), ("high", 3)):
        (tmp_path / name).mkdir()
        changes = {"priority": priority, "state_dir": str(tmp_path / "state")}
        world = World(tmp_path / name, **changes)
        world.executor = lambda _: executor
        for step in (1, 2):
            checkpoint(world.output, step, step)
        runs.append(world)
    supervisor = Supervisor(once=True)

    def script(_: Evaluate) -> list[Reply] | None:
        if len(executor.requests) == 1:
            until(lambda: len(supervisor.shared.pool.waiting) == 2)
        return None

    executor.script = script
    with ExitStack() as stack:
        assert watching(supervisor, runs, stack).run() == 0
    first = executor.requests[0]
    rest = [it for it in executor.requests if it != first]
    high = [it for it in rest if it.startswith("high")]
    assert rest[: len(high)] == high


@pytest.mark.parametrize("alike", [True, False])
def test_an_idle_evaluator_goes_from_run_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alike: bool
) -> None:
    """Nothing is imported or loaded anew for a turn; what would be started otherwise is."""
    started, runs = list[ScriptedEvaluator](), list[World]()

    def start(receive: Callable[[Reply], None], *, beside: int) -> ScriptedEvaluator:
        assert beside == 1
        assert not any(it.alive for it in started)
        started.append(ScriptedEvaluator(receive, script))
        return started[-1]

    monkeypatch.setattr("clipwatch.executors.local.EvaluatorProcess", start)
    for name in "ab":
        (tmp_path / name).mkdir()
        share = not alike and name == "b"
        changes = {"state_dir": str(tmp_path / "state"), "share_gpu": share}
        world = World(tmp_path / name, **changes)
        world.executor = LocalExecutor
        for step in (1, 2):
            checkpoint(world.output, step, step)
        runs.append(world)
    supervisor, asked = Supervisor(once=True), list[str]()

    def script(request: Evaluate) -> list[Reply] | None:
        asked.append(request.path)
        if len(asked) == 1:
            until(lambda: len(supervisor.shared.pool.waiting) == 1)
        return None

    with ExitStack() as stack:
        assert watching(supervisor, runs, stack).run() == 0
    assert [states(it) for it in runs] == [{1: "published", 2: "published"}] * 2
    assert len(asked) == 4
    assert len(started) == (1 if alike else 4)
    assert not any(it.alive for it in started)


def test_runs_come_and_go_while_the_daemon_lives(trainings: Trainings) -> None:
    """One that is added is taken on, one whose config is deleted ends as at a stop; all is told."""
    first = trainings.add("a")
    trainings.look()
    with trainings.live():
        until(lambda: trainings.state("a") == {1: "scored"})
        trainings.add("b")
        trainings.look()
        until(lambda: trainings.state("b") == {1: "scored"})
        first.unlink()
        trainings.look()
        trainings.look()  # an editor may write it just now: gone is what is gone twice
        until(lambda: trainings.heard(f"{first} is gone: watched no longer"))
        until(lambda: trainings.roster.watched == {trainings.root / "b/config.json"})
        with exclusive(trainings.root / ".state", run_id(trainings.root / "a/output")):
            pass  # its lock is free
        trainings.add("a", (1, 2))
        trainings.look()
        until(lambda: trainings.state("a") == {1: "scored", 2: "scored"})
    assert trainings.code == 0
    assert not trainings.roster.watched


def test_a_broken_config_holds_up_nobody_and_is_taken_up_when_it_is_mended(
    trainings: Trainings,
) -> None:
    """It is one line with file and key, said once."""
    trainings.add("a")
    broken = trainings.add("b", priority="first")
    trainings.look()
    trainings.look()
    with trainings.live():
        until(lambda: trainings.state("a") == {1: "scored"})
        told = [it for it in trainings.console.said if it.startswith(f"not watched: {broken}:")]
        assert len(told) == 1
        assert "priority: must be a whole number" in told[0]
        trainings.add("b", priority=1)
        trainings.look()
        until(lambda: trainings.state("b") == {1: "scored"})


def test_a_run_that_drains_is_let_go_of_once(trainings: Trainings) -> None:
    """While its config stays away it is not told to end again, which would end it at once."""
    config, held = trainings.add("a", drain_seconds=600), trainings.hold()
    trainings.look()
    with trainings.live():
        until(lambda: bool(trainings.executor.requests))
        config.unlink()
        for _ in range(4):
            trainings.look()
        done = threading.Event()
        trainings.supervisor.soon(done.set)
        assert done.wait(60)
        held.set()
        until(lambda: trainings.state("a") == {1: "scored"})
        until(lambda: not trainings.roster.watched)
    told = [it for it in trainings.console.said if "watched no longer" in it]
    assert len(told) == 1


def test_a_run_whose_executor_is_not_to_be_had_is_tried_again(trainings: Trainings) -> None:
    """It has no lock, and nothing of it is left, until its config is another."""
    trainings.refused = "cuda:7"
    config = trainings.add("a", device="cuda:7")
    trainings.look()
    with trainings.live():
        until(lambda: trainings.heard("device: it is not there"))
        until(lambda: not trainings.roster.watched)
        with exclusive(trainings.root / ".state", run_id(trainings.root / "a/output")):
            pass  # its lock is free
        trainings.add("a")
        trainings.look()
        until(lambda: trainings.state("a") == {1: "scored"})
        until(lambda: trainings.roster.watched == {config})


def test_nobody_is_taken_on_once_the_daemon_stops(trainings: Trainings) -> None:
    """Whoever came then would never hear of the stop, and the daemon not end."""
    trainings.add("a", drain_seconds=600)
    held = trainings.hold()
    trainings.look()
    with trainings.live():
        until(lambda: bool(trainings.executor.requests))
        trainings.add("b")
        trainings.supervisor.stop()
        trainings.look()
        held.set()
        until(lambda: trainings.state("a") == {1: "scored"})
        until(lambda: not trainings.roster.watched)
    assert trainings.code == 0
    assert trainings.state("b") == {}


def test_two_configs_of_one_directory_are_one_run(trainings: Trainings) -> None:
    """The second is told, and watched when the first is gone."""
    first, second = trainings.add("a"), trainings.add("b", ())
    text = json.loads(second.read_text()) | {"output_dir": str(trainings.root / "a/output")}
    second.write_text(json.dumps(text))
    trainings.look()
    with trainings.live():
        until(lambda: trainings.state("a") == {1: "scored"})
        until(lambda: trainings.heard(f"is watched already, by {first}"))
        assert trainings.roster.watched == {first}


def test_others_configs_are_told_once(trainings: Trainings) -> None:
    """A model has a config.json, too: one line for all of them."""
    trainings.add("a")
    for name in ("unet", "vae"):
        (trainings.root / "models" / name).mkdir(parents=True)
        (trainings.root / "models" / name / "config.json").write_text("{}")
    trainings.look()
    trainings.look()
    with trainings.live():
        until(lambda: trainings.state("a") == {1: "scored"})
    told = [it for it in trainings.console.said if "passed over" in it]
    at = trainings.root / "models/unet/config.json"
    assert told == [f"2 configurations ask for no CLIP scores and are passed over, as {at}"]


def test_a_root_that_is_gone_for_a_while_ends_nothing(trainings: Trainings) -> None:
    """A dead mount: what is watched stays so, and that is said once."""
    config = trainings.add("a")
    looked = trainings.finder.look(frozenset())
    assert [it.config for it in looked.wanted] == [config]
    aside = trainings.root.with_name("aside")
    trainings.root.rename(aside)
    for said in ([f"{trainings.root} cannot be read: No such file or directory"], []):
        news = trainings.finder.look(frozenset({config}))
        assert news.gone == ()
        assert news.wanted == ()
        assert [it.partition(": what")[0] for it in news.said] == said
    aside.rename(trainings.root)


def test_a_run_whose_log_fails_ends_alone_and_comes_back(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on; that run is tried again, here as its file is touched."""
    trainings.add("a")
    config = trainings.add("b", (), state_dir=str(trainings.root / ".other"))
    trainings.look()
    append, failing = Journal.append, True

    def fail(self: Journal, *asked: Any, **more: Any) -> int:
        if failing and self.path.parent.name == ".other":
            raise JournalError("the disk is broken")
        return append(self, *asked, **more)

    monkeypatch.setattr(Journal, "append", fail)
    with trainings.live():
        until(lambda: trainings.heard("ends by a fault, the other runs go on: the disk is broken"))
        until(lambda: trainings.state("a") == {1: "scored"})
        failing = False
        config.write_text(config.read_text() + "\n")
        trainings.look()
        until(lambda: config in trainings.roster.watched)
    assert trainings.code == 0


def test_who_comes_with_a_locked_log_holds_up_nobody(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and tried again, here as its file is touched; the others go on meanwhile."""
    trainings.add("a")
    trainings.look()
    locked = True

    def opened(path: Path) -> Journal:
        if locked and path.parent.name == ".other":
            raise LogLocked(f"{path}: another program keeps it locked")
        return Journal(path)

    monkeypatch.setattr("clipwatch.loop.roster.Journal", opened)
    with trainings.live():
        until(lambda: trainings.state("a") == {1: "scored"})
        config = trainings.add("b", state_dir=str(trainings.root / ".other"))
        trainings.look()
        until(lambda: trainings.heard("another program keeps it locked"))
        trainings.add("a", (2,))
        until(lambda: trainings.state("a") == {1: "scored", 2: "scored"})
        assert config not in trainings.roster.watched
        locked = False
        config.write_text(config.read_text() + "\n")
        trainings.look()
        until(lambda: config in trainings.roster.watched)


def test_one_run_alone_fails_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with the error's line."""

    def fail(*_: Any, **__: Any) -> int:
        raise JournalError("the disk is broken")

    world = World(tmp_path)
    monkeypatch.setattr(Journal, "append", fail)
    with pytest.raises(ClipwatchError, match="the disk is broken"):
        world.once()


def test_folders_are_looked_at_one_by_one_and_a_fifth_of_the_time_at_most() -> None:
    """Those that are due: the one that is so longest first. A hint is followed at once."""

    def due(seconds: float) -> Any:
        return SimpleNamespace(run=SimpleNamespace(eyes=SimpleNamespace(seconds_left=seconds)))

    looks, runs = Looks(), {"a": due(-3.0), "b": due(-5.0), "c": due(2.0)}
    assert [it.run for it in looks.letters(runs, set())] == ["b"]
    assert [it.run for it in looks.letters(runs, {"c"})] == ["b", "c"]
    assert looks.seconds_left([]) == inf
    looks.took("c", 1000.0)  # who is hinted at puts nobody off, however often
    assert [it.run for it in looks.letters(runs, {"c"})] == ["b", "c"]
    looks.took("b", 1000.0)
    assert looks.letters(runs, set()) == []
    assert [it.run for it in looks.letters(runs, {"a", "c"})] == ["a", "c"]
    assert 3000 < looks.seconds_left(runs.values()) <= 4000


# --- what is said ---------------------------------------------------------------------------------


def test_each_line_tells_of_which_run_it_is() -> None:
    """Of several; what is in hand is bounded, and goes with its run."""
    out, now = io.StringIO(), [0.0]
    console = Console(RichConsole(file=out, soft_wrap=True), lambda: now[0])
    voices = [console.of(f"run-{number}") for number in range(7)]
    voices[0].say("hello")
    for voice in voices:
        voice.working("checkpoint-1", "loading")
    assert voices[3].doing == "checkpoint-1: loading"
    voices[6].close()
    now[0] = 100.0
    console.tick()
    console.close()
    first, reminder = (it.partition(" ")[2] for it in out.getvalue().splitlines())
    assert first == "run-0: hello"
    assert reminder.startswith("run-0: checkpoint-1: loading (100 s); run-1: ")
    assert reminder.endswith("; run-4: checkpoint-1: loading (100 s); 1 more in hand")


def test_objects_have_their_run() -> None:
    """Each of them, also what is in hand."""
    out, now = io.StringIO(), [0.0]
    console = ObjectConsole(out, lambda: now[0])
    console.say("of all")
    console.of("a").say("of a")
    console.of("b").working("checkpoint-1", "loading")
    now[0] = 100.0
    console.tick()
    console.close()
    lines = [json.loads(it) for it in out.getvalue().splitlines()]
    assert [(it["run"], it["event"]) for it in lines] == [
        (None, "Said"),
        ("a", "Said"),
        ("b", "Working"),
    ]
    assert lines[2]["fields"]["what"] == "checkpoint-1"


def test_all_runs_are_one_short_line() -> None:
    """Of a hundred as of two; of one it is its own status."""
    statuses = {f"run-{number}": "3 checkpoints: 3 scored" for number in range(100)}
    assert together(statuses, 3, 97) == "100 runs: 3 evaluating, 97 waiting"
    assert together({"a": "x"}, 1, 0) == "x"
    assert together({}, 0, 0) == "0 runs"
    assert together({"a": "x", "b": "y"}, 1, 0) == "2 runs: 1 evaluating, 1 watched"


def test_the_view_of_all_runs_is_bounded() -> None:
    """Those that are evaluated stand first, and what does not fit is counted."""
    statuses = {f"run-{number}": "1 checkpoint: 1 scored" for number in range(50)}
    statuses["run-40"] = "1 checkpoint: 1 evaluating"
    lines = overview(statuses, 30, 5)
    assert len(lines) == 5
    assert lines[0] == "run-40  1 checkpoint: 1 evaluating"[:30]
    assert lines[-1] == "46 more runs"
    assert overview({"a": "x"}, 30, 5) == ["a  x"]


# --- health ---------------------------------------------------------------------------------------


def test_one_address_serves_all_runs_that_name_it(tmp_path: Path) -> None:
    """Pages, metrics and status have each of them; a run that ends is there no more."""
    desk, address = Desk(), Address("127.0.0.1", 0)
    runs: dict[str, Callable[[], LoopState]] = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        checkpoint(world.output, 1)
        assert world.once() == 0
        runs[name] = lambda run=world.run: LoopState(run, 7, "watching")  # type: ignore[misc]
    told = [desk.attend(address, name, loop) for name, loop in runs.items()]
    assert [bool(it) for it in told] == [True, False]
    host, _, port = told[0].rpartition(":")
    at = Address(host, int(port))
    names = [loop().run.name for loop in runs.values()]  # type: ignore[union-attr]
    status = json.loads(get(at, "/status")[1])
    assert [it["run"] for it in status["runs"]] == names
    metrics = get(at, "/metrics")[1]
    for name in names:
        assert f'clipwatch_checkpoints{{run="{name}",state="published"}} 1.0' in metrics
    assert metrics.count("# TYPE clipwatch_ready gauge") == 1
    assert metrics.count("\nprocess_open_fds") == 1
    assert get(at, "/readyz") == (200, "ok\n")
    desk.attend(address, "c", lambda: LoopState(phase="draining"))
    assert get(at, "/readyz") == (503, "1 of 3 runs: draining\n")
    for name in ("a", "c"):
        desk.leave(address, name)
    assert [it["run"] for it in json.loads(get(at, "/status")[1])["runs"]] == names[1:]
    desk.close()


def test_a_daemon_without_a_run_yet_is_well(tmp_path: Path) -> None:
    """It answers where the call said so, and is started anew by nobody."""
    desk = Desk()
    host, _, port = desk.keep(Address("127.0.0.1", 0)).rpartition(":")
    at = Address(host, int(port))
    desk.own = LoopState(phase="idle")
    assert get(at, "/healthz") == get(at, "/readyz") == (200, "ok\n")
    assert json.loads(get(at, "/status")[1])["runs"] == []
    desk.close()
    assert not list(tmp_path.iterdir())
