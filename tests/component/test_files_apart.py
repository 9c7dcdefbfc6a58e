"""Files that no training orders, by docs/layouts.md: all but the evaluator is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.events import (
    AdviceGiven,
    CheckpointCompleted,
    CheckpointDiscarded,
    EvaluationCompleted,
)
from clipwatch.domain.sighting import Sighting, Unusable, Whole
from clipwatch.executors.messages import Failed
from clipwatch.layouts import Scanner
from clipwatch.layouts.claims import chosen
from clipwatch.loop.recognising import recognise
from clipwatch.results import view
from clipwatch.results.table import table
from layout_kit import LORA, weights
from world import World

ONE = {"unet.mid.lora_A.weight": 8, "unet.mid.lora_B.weight": 8}


def lora(folder: Path, name: str, value: float, **metadata: str) -> Path:
    """Write a LoRA's file; the value tells the weights."""
    path = folder / f"{name}.safetensors"
    tensors = {key: np.full(size, value, np.float32) for key, size in ONE.items()}
    save_file(tensors, path, metadata or None)
    return path


def seen(folder: Path, *only: str) -> dict[str, Sighting]:
    layouts = chosen("files", only=only)
    scanner = Scanner(folder, weights="live", settle_seconds=0.0, layouts=layouts)
    return {it.name: it for it in scanner.scan()}


def test_each_is_a_checkpoint_in_the_order_of_the_names(tmp_path: Path) -> None:
    """Files, and folders with an adapter; the step that a file tells is that of its training."""
    lora(tmp_path, "ink", 1.0, ss_steps="700")
    lora(tmp_path, "anime-000010", 2.0, ss_steps="700")
    weights(tmp_path / "style" / LORA)
    (tmp_path / "samples").mkdir()
    (tmp_path / "notes.txt").write_text("")
    found = seen(tmp_path)
    assert {name: (it.step, it.unit) for name, it in found.items()} == {
        "anime-000010.safetensors": (1, "file"),
        "ink.safetensors": (2, "file"),
        "style": (3, "file"),
    }
    assert all(isinstance(it.verdict, Whole) for it in found.values())


def test_only_what_is_named_is_looked_at(tmp_path: Path) -> None:
    """The others are neither checkpoints nor told of, and the places are those among all."""
    for number, name in enumerate("abc"):
        lora(tmp_path, name, number)
    found = seen(tmp_path, "c.safetensors", "b.safetensors")
    assert {name: it.step for name, it in found.items()} == {"b.safetensors": 2, "c.safetensors": 3}
    layouts = chosen("auto", only=("b.safetensors",))
    scanner = Scanner(tmp_path, weights="live", settle_seconds=0.0, layouts=layouts)
    assert scanner.scan() == []
    assert scanner.lying == "1 single .safetensors file whose name tells no step (b.safetensors)"


def test_the_same_weights_are_one(tmp_path: Path) -> None:
    """Whatever they are called, and whatever else their files tell."""
    lora(tmp_path, "a", 1.0)
    lora(tmp_path, "b", 1.0, ss_output_name="b")
    kinds = {type(it.verdict) for it in seen(tmp_path).values()}
    assert kinds == {Whole, Unusable}


def test_places_are_kept_and_nothing_is_told_of_a_course(tmp_path: Path) -> None:
    """What comes later stands behind the others, though its name comes before theirs."""
    world = World(tmp_path, layout="files", advice={"low": 1.0, "after": 1})
    for value, name in ((1.0, "b"), (2.0, "d")):
        lora(world.output, name, value)
    assert world.once() == 0
    lora(world.output, "a", 3.0)
    assert world.once() == 0
    places = {row.name: row.step for row in view.rows(world.run)}
    assert places == {"b.safetensors": 1, "d.safetensors": 2, "a.safetensors": 3}
    assert len(world.requests) == 3
    told = [it.event for it in world.logged]
    done = [it for it in told if isinstance(it, EvaluationCompleted)]
    assert [it.against_best for it in done] == [None, None, None]
    assert not any(isinstance(it, AdviceGiven) for it in told)
    assert table(world.run).startswith("file")
    assert "a.safetensors: LoRA, file 3, now in the queue" in world.said


def test_what_is_not_named_any_more_waits_for_nobody(tmp_path: Path) -> None:
    """It was not scored, and is not called deleted; named again it is taken up."""
    world = World(tmp_path, layout="files", max_attempts=1)
    for number, name in enumerate("ab"):
        lora(world.output, name, number)
    world.script = lambda _: [Failed("internal", "not now")]
    assert world.once() == 1
    world = World(tmp_path, layout="files", layout_only=["a.safetensors"])
    assert world.once() == 0
    assert [it.files[0].path for it in world.requests] == ["a.safetensors"]
    [left] = [it.event for it in world.logged if isinstance(it.event, CheckpointDiscarded)]
    assert (left.name, left.reason) == ("b.safetensors", "others are named")
    world = World(tmp_path, layout="files")
    assert world.once() == 0
    made = [it.event for it in world.logged if isinstance(it.event, CheckpointCompleted)]
    assert [it.name for it in made].count("b.safetensors") == 2
    assert {row.name: row.state for row in view.rows(world.run)} == dict.fromkeys(
        ("a.safetensors", "b.safetensors"), "published"
    )


@pytest.mark.parametrize("layout", ["auto", "kohya"])
def test_a_training_is_another_run_than_its_files(tmp_path: Path, layout: str) -> None:
    """One curve cannot show both, and neither is left out for the other."""
    world = World(tmp_path, layout="files")
    lora(world.output, "a-step00000100", 1.0)
    name = recognise(world.log, world.output, "files").name
    assert world.once() == 0
    assert recognise(world.log, world.output, "files").name == name == world.run.name
    assert recognise(world.log, world.output, layout).name != name
