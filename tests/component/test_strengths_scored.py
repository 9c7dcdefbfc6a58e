"""Several strengths of a LoRA: each image once, one curve each, base and adapter loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import evaluator_kit as kit
from clipwatch.evaluator.generation import adapters, opening
from clipwatch.results import view
from clipwatch.testing.memory import MemoryTracker
from loop_kit import until
from world import World, checkpoint, publishing_to, settings

if TYPE_CHECKING:
    from clipwatch.domain.events import ImageScore
    from clipwatch.evaluator.evaluate import Evaluator

THREE = [0.6, 0.8, 1.0]


def asked(world: World) -> list[tuple[str, float]]:
    """Return what the evaluator was asked for, in order."""
    return [(Path(it.path).name, it.protocol.adapter_strength) for it in world.requests]


def curves(world: World) -> dict[str, list[int]]:
    """Return the steps that the tracker has of each series."""
    kept = world.trackers["memory"]
    assert isinstance(kept, MemoryTracker)
    return {name: sorted(step for step, _ in rows.values()) for name, rows in kept.rows.items()}


def test_each_checkpoint_is_scored_at_each_strength_and_the_base_once(tmp_path: Path) -> None:
    """The newest checkpoint first, its strengths one after another; each curve has its points."""
    world = World(tmp_path, strengths=THREE, baseline=True)
    for step in (1, 2):
        checkpoint(world.output, step)
    assert world.once() == 0
    order = (1.0, 0.6, 0.8)  # the trainer's own first
    assert asked(world) == [
        ("base", 1.0),
        *(("checkpoint-2", it) for it in order),
        *(("checkpoint-1", it) for it in order),
    ]
    assert curves(world) == {
        "clipwatch-strength-1": [0, 1, 2],
        "clipwatch-strength-0.6": [1, 2],
        "clipwatch-strength-0.8": [1, 2],
    }
    assert all(it.completed and it.completed.against_base for it in trained(world))
    assert "base-model: it has no strength, and is scored once" in world.said
    assert any(line.startswith("checkpoint-2 at strength 0.6: clip/mean") for line in world.said)
    assert "2 checkpoints at 3 strengths: 6 published" in world.said
    assert world.once() == 0
    assert len(world.requests) == 7


def test_a_slider_has_a_curve_at_each_side_of_nothing(tmp_path: Path) -> None:
    """0 is a strength like any other, told and named apart, as those below it are."""
    world = World(tmp_path, strengths=[-1, 0, 1], baseline=True)
    checkpoint(world.output, 1)
    assert world.once() == 0
    assert asked(world) == [
        ("base", 1.0),
        *(("checkpoint-1", it) for it in (1.0, -1.0, 0.0)),
    ]
    assert curves(world) == {
        "clipwatch-strength-1": [0, 1],
        "clipwatch-strength--1": [1],
        "clipwatch-strength-0": [1],
    }
    assert any(line.startswith("checkpoint-1 at strength 0: clip/mean") for line in world.said)
    assert [row.strength for row in view.rows(world.run)] == [None, -1.0, 0.0, 1.0]


def trained(world: World) -> list[Any]:
    return [it for it in world.run.evaluations.values() if not it.of_base]


def test_what_was_cut_short_goes_on_at_its_own_strength(tmp_path: Path) -> None:
    """A restart in the middle of the second strength makes only the images that lack there."""
    world = World(tmp_path, strengths=THREE)
    checkpoint(world.output, 1)
    at_first = world.script

    def half(request: Any) -> Any:
        from clipwatch.testing.scripted import usual

        return usual(request, images=2) if request.protocol.adapter_strength == 0.6 else None

    world.script = half
    with world.live():
        until(lambda: any(len(it.done) == 2 for it in world.run.evaluations.values()))
    world.script = at_first
    before = len(world.requests)
    assert world.once() == 0
    assert [len(it.done) for it in world.requests[before:]] == [2, 0]
    assert asked(world)[before:] == [("checkpoint-1", 0.6), ("checkpoint-1", 0.8)]
    assert [it.clip.n for it in trained(world)] == [4, 4, 4]


def test_strengths_may_be_added_while_it_runs(tmp_path: Path) -> None:
    """The curve so far goes on under its name; taken away again, they are not scored further."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    more = publishing_to(settings(tmp_path, strengths=[0.5, 1.0]), "memory")
    with world.live() as supervisor:
        until(lambda: curves(world) == {"clipwatch": [1]})
        world.reread = lambda: more
        supervisor.reload()
        until(lambda: curves(world) == {"clipwatch": [1], "clipwatch-strength-0.5": [1]})
        checkpoint(world.output, 2)
        until(lambda: curves(world) == {"clipwatch": [1, 2], "clipwatch-strength-0.5": [1, 2]})
        until(lambda: any(line.startswith("all 2 checkpoints are scored") for line in world.said))
        world.reread = lambda: world.settings
        supervisor.reload()
        until(lambda: not world.run.beside)
        checkpoint(world.output, 3)
        until(lambda: curves(world)["clipwatch"] == [1, 2, 3])
    assert curves(world)["clipwatch-strength-0.5"] == [1, 2]
    assert [row.strength for row in view.rows(world.run)] == [None, None, None]
    assert len(world.requests) == 5


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each adapter that is put into a pipeline, and each base that is opened."""
    noted: list[str] = []
    put, opened = adapters.apply, opening.open_base

    def apply(*arguments: Any, **more: Any) -> Any:
        noted.append(arguments[1].parent.name)
        return put(*arguments, **more)

    def open_base(*arguments: Any) -> Any:
        noted.append("base")
        return opened(*arguments)

    monkeypatch.setattr(adapters, "apply", apply)
    monkeypatch.setattr("clipwatch.evaluator.generation.pipeline.open_base", open_base)
    return noted


def test_an_adapter_is_put_in_once_for_all_strengths(world: Path, applied: list[str]) -> None:
    """The images are those of an evaluator that loads it anew for each; another one is loaded."""
    from clipwatch.evaluator.evaluate import Evaluator

    kit.write_lora(world / "base", world / "second", seed=2)
    found: dict[tuple[str, float], list[ImageScore]] = {}
    evaluator = Evaluator()
    for name, strength in (("lora", 0.6), ("lora", 1.0), ("second", 0.6), ("lora", 0.6)):
        how = kit.protocol(world / "base", adapter_strength=strength)
        scored = kit.scores_of(evaluator, kit.request(world / name, "lora", how))
        assert found.setdefault((name, strength), scored) == scored
    assert applied == ["base", "lora", "second", "lora"]
    assert len({tuple(it.score for it in scored) for scored in found.values()}) == 3
    for (name, strength), scored in found.items():
        how = kit.protocol(world / "base", adapter_strength=strength)
        assert kit.scores_of(Evaluator(), kit.request(world / name, "lora", how)) == scored


def test_at_nothing_a_lora_is_the_base(world: Path, evaluator: Evaluator) -> None:
    """And below it the change is turned round: other pictures than above."""
    found = {}
    for strength in (-1.0, 0.0, 1.0):
        how = kit.protocol(world / "base", adapter_strength=strength)
        found[strength] = kit.scores_of(evaluator, kit.request(world / "lora", "lora", how))
    alone = kit.scores_of(evaluator, kit.request(world / "base", "base", how, files=()))
    assert kit.same(found[0.0], alone)
    assert not any(kit.same(found[it], found[0.0], kit.NEAR) for it in (-1.0, 1.0))
    assert not kit.same(found[-1.0], found[1.0], kit.NEAR)


def test_an_adapter_that_was_written_anew_is_read_anew(
    world: Path, evaluator: Evaluator, applied: list[str]
) -> None:
    """Its path is the same, but not the file; and one that does not fit leaves none behind."""
    folder = world / "changing"
    kit.write_lora(world / "base", folder, seed=3)
    how = kit.protocol(world / "base")
    first = kit.scores_of(evaluator, kit.request(folder, "lora", how))
    kit.write_lora(world / "base", folder, seed=4)
    second = kit.scores_of(evaluator, kit.request(folder, "lora", how.at(0.5)))
    assert applied[-2:] == ["changing", "changing"]
    assert first != second
    kept = kit.request(folder, "lora", how.at(0.5))
    file = next(folder.glob("*.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-8] + b"\xff" * 8)  # no longer finite
    assert kit.failure(evaluator, kit.request(folder, "lora", how)).kind == "weights"
    file.write_bytes(whole)
    again = kit.request(folder, "lora", how.at(0.5))
    assert again.files != kept.files  # another time of change
    assert kit.scores_of(evaluator, again) == second
