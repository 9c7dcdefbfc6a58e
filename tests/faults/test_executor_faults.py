"""Executors of other packages that raise, exit, or say what nobody asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from clipwatch.domain.events import ImageScore, ImagesScored
from clipwatch.domain.losses import Captioned, Example, LossProtocol, LossSets, Rows
from clipwatch.executors import named
from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.guarded import Guarded
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Measured, Reply, Scored
from clipwatch.kit import plugins
from clipwatch.kit.errors import SettingsError
from clipwatch.results import view
from clipwatch.settings import Settings
from clipwatch.settings.parts import Watching
from clipwatch.testing.scripted import ScriptedEvaluator, usual
from loop_kit import states, until
from world import World, checkpoint, settings

Act = Callable[[], Any]


class Moody:
    """An executor that works, but for what `acts` has for its methods and its handles'."""

    def __init__(
        self, acts: dict[str, Act], script: Callable[[Evaluate], list[Reply] | None]
    ) -> None:
        self.acts = acts
        self.script = script

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Tell one."""
        return cast("tuple[Slot, ...]", self.acts.get("slots", lambda: (Slot("one", "cpu"),))())

    def start(self, _: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start one that follows the script."""
        self.acts.get("start", bool)()
        return MoodyHandle(self.acts, receive, self.script)

    def reads(self, _: Path) -> bool:
        """Read everything."""
        return cast("bool", self.acts.get("reads", lambda: True)())


class MoodyHandle(ScriptedEvaluator):
    """A handle whose calls do what `acts` say, before or instead of what they should."""

    def __init__(
        self,
        acts: dict[str, Act],
        receive: Callable[[Reply], None],
        script: Callable[[Evaluate], list[Reply] | None],
    ) -> None:
        self.acts = acts
        super().__init__(receive, script)

    def evaluate(self, request: Evaluate) -> None:
        """Do it."""
        self.acts.get("evaluate", bool)()
        super().evaluate(request)

    def kept(self, *, enough: bool = False) -> None:
        """Do it."""
        self.acts.get("kept", bool)()
        super().kept(enough=enough)

    def kill(self) -> None:
        """Do it."""
        super().kill()
        self.acts.get("kill", bool)()


def raises(error: BaseException) -> Act:
    """Return what raises it."""

    def act() -> None:
        raise error

    return act


def world_of(
    folder: Path, acts: dict[str, Act], script: Callable[[Evaluate], list[Reply] | None]
) -> World:
    """Return a world whose evaluations run in such an executor, guarded as one by name is."""
    world = World(folder, max_attempts=1)

    def note(request: Evaluate) -> list[Reply] | None:
        world.requests.append(request)
        return script(request)

    world.executor = lambda _: Guarded(Moody(acts, note), "moody")
    checkpoint(world.output, 1)
    return world


FAULTS = {"a fault": RuntimeError("no route\n  to host"), "an end": SystemExit(3)}


@pytest.mark.parametrize("error", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("method", ["slots", "start", "reads", "evaluate", "kept"])
def test_what_a_method_raises_fails_the_evaluation_alone(
    tmp_path: Path, method: str, error: BaseException
) -> None:
    """The checkpoint has the reason in one line, the daemon its end, and the next start goes on."""
    acts = {method: raises(error)}
    # it waits to be told that its first image is kept
    world = world_of(tmp_path, acts, lambda it: usual(it, images=1) if acts else None)
    assert world.once() == 1
    (row,) = view.rows(world.run)
    assert row.state in ("failed", "waiting")
    assert "executor 'moody' fails" in str(row.reason)
    assert "\n" not in str(row.reason)
    acts.clear()
    assert world.once() == 0
    assert states(world) == {1: "published"}


def test_an_evaluator_that_cannot_be_ended_is_left_alone(tmp_path: Path) -> None:
    """What it was asked for is done, and the daemon ends as it should."""
    world = world_of(tmp_path, {"kill": raises(KeyError("gone"))}, lambda _: None)
    assert world.once() == 0
    assert states(world) == {1: "published"}


@pytest.mark.parametrize("told", [None, (), ("one",), 3])
def test_slots_that_are_none_are_a_refusal(told: object) -> None:
    """They are waited for, as any."""
    moody = Moody({"slots": lambda: told}, lambda _: None)
    found = Guarded(moody, "moody").slots()
    assert isinstance(found, Refusal)
    assert found.problem.startswith("the executor 'moody' ")


def scored(request: Evaluate, **changes: Any) -> Reply:
    """Return the usual first image, changed."""
    first = usual(request)[1]
    assert isinstance(first, Scored)
    return Scored((replace(first.images[0], **changes),))


PLAN = LossProtocol((Example("0" * 16, "a caption"),), (), 0, 32, 32, times=(500,))

WRONG: dict[str, tuple[Callable[[Evaluate], list[Any]], str]] = {
    "scored before loaded": (lambda it: usual(it)[1:], "Scored comes before Loaded"),
    "finished before loaded": (lambda _: [Finished(0, 0.0)], "Finished comes before Loaded"),
    "an image twice": (lambda it: [*usual(it)[:2], usual(it)[1]], "was not asked for"),
    "another's image": (
        lambda _: [Loaded({}), Scored((ImageScore("other", 0, 1, {"": 0.3}),))],
        "image 0 of prompt other was not asked for",
    ),
    "another seed": (lambda it: [Loaded({}), scored(it, seed=-1)], "was not asked for"),
    "no number": (lambda it: [Loaded({}), scored(it, scores={"": float("nan")})], "has no score"),
    "no score": (lambda it: [Loaded({}), scored(it, scores={})], "has no score"),
    "an answer to nothing": (
        lambda it: [Loaded({}), scored(it, answers={"": (0.5,)})],
        "has no score",
    ),
    "no answers": (
        lambda it: [Loaded({}), scored(it, answers={"": ()})],
        "has no score",
    ),
    "what is no reply": (lambda _: ["done!"], "'done!' is no reply"),
    "losses before loaded": (
        lambda it: [Measured(PLAN, ((1.0,),)), *usual(it)],
        "Measured comes before Loaded",
    ),
    "losses of others": (
        lambda it: [Loaded({}), Measured(PLAN, ((1.0,),)), *usual(it)[1:]],
        "its losses are not those that were asked for",
    ),
    "too few": (lambda it: [*usual(it)[:3], Finished(0, 0.0)], "only 2 images were scored"),
}


def measured(rows: Rows, _: Evaluate) -> list[Reply]:
    """Return these losses as an answer."""
    return [Loaded({}), Measured(PLAN, rows)]


def test_losses_have_a_number_for_each_image_and_time(tmp_path: Path) -> None:
    """What the log could not hold, or not be read with, does not come into it."""
    heard: list[Reply] = []
    world = World(tmp_path)
    checkpoint(world.output, 1)
    assert world.once() == 0
    request = msgspec.structs.replace(
        world.requests[0], losses=LossSets((Captioned("/there.png", "a caption"),))
    )
    rows: list[Rows] = [((0.5,),), (), ((float("nan"),),), ((0.5, 0.5),)]
    for row in rows:
        moody = Moody({}, partial(measured, row))
        one = Guarded(moody, "moody").start(Slot("one", "cpu"), heard.append)
        one.evaluate(request)
        until(lambda: len(heard) > 1)
        assert isinstance(heard[1], Measured) == (row is rows[0])
        one.kill()
        heard.clear()


@pytest.mark.parametrize(("said", "reason"), WRONG.values(), ids=WRONG)
def test_what_nobody_asked_for_is_never_a_number(
    tmp_path: Path, said: Callable[[Evaluate], list[Any]], reason: str
) -> None:
    """It fails the attempt, with what was wrong; nothing of it is in the log, and it can go on."""
    scripts: list[Callable[[Evaluate], list[Any]]] = [said]
    world = world_of(tmp_path, {}, lambda it: scripts.pop()(it) if scripts else None)
    assert world.once() == 1
    (row,) = view.rows(world.run)
    assert reason in str(row.reason)
    assert world.once() == 0
    assert states(world) == {1: "published"}
    seen = images(world)
    assert len(seen) == len(set(seen))
    assert {prompt for prompt, _ in seen} == {it.id for it in world.settings.protocol.prompts}


def images(world: World) -> list[tuple[str, int]]:
    """Return the images in the log, as (prompt id, index)."""
    events = (entry.event for entry in world.logged)
    scored = (it for it in events if isinstance(it, ImagesScored))
    return [(it.prompt_id, it.index) for event in scored for it in event.images]


def test_one_that_cannot_be_made_is_a_mistake_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and exit code 2; ClipwatchErrors of its own stay as they are."""

    def make(_: Settings) -> Executor:
        sys.exit("no cluster")

    monkeypatch.setattr(plugins, "load", lambda *_: make)
    plain = settings(tmp_path)
    moody = replace(plain, compute=replace(plain.compute, executor="moody"))
    with pytest.raises(SettingsError, match=r"^executor: the executor 'moody' fails \(SystemExit"):
        named.load(moody)


def test_a_layout_that_fails_later_is_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, as whatever keeps the directory from being read; and over when it is."""
    world = World(tmp_path)
    trouble = tmp_path / "trouble"

    class Shy:
        """A layout that fails while there is trouble."""

        def candidates(self, _: object) -> list[Any]:
            """Find nothing."""
            if trouble.exists():
                raise ValueError("what is that?")
            return []

        def inspect(self, *_: object) -> Any:
            """Never asked."""

    layouts = {"shy": cast("Any", Shy()), **world.settings.watching.layouts}
    monkeypatch.setattr(Watching, "layouts", layouts)
    with world.live():
        until(lambda: bool(world.log.exists() and world.run.name))
        trouble.touch()
        until(lambda: "the layout 'shy' fails on" in world.run.problem)
        checkpoint(world.output, 1)
        trouble.unlink()
        until(lambda: states(world) == {1: "published"})
        assert not world.run.problem
