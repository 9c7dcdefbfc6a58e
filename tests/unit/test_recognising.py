"""Which run of a log a directory is: the decision, by how the runs are related to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointFound,
    OutputDirMoved,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.names import run_id
from clipwatch.domain.state import Run
from clipwatch.loop.recognising import Recognised, Relation, choose, known_runs, recognise, related

START = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Path("/data/out")


def run(name: str, minute: int = 0, output_dir: str = "/elsewhere") -> Run:
    there = START + timedelta(minutes=minute)
    return Run(name, output_dir, "", (), {}, first_dir=output_dir, there=there)


@given(st.lists(st.sampled_from(["named", "same", "moved", "copy"]), max_size=6))
def test_the_nearest_relation_and_the_last_that_was_there_count(relations: list[Relation]) -> None:
    """A copy is never taken for the run, and only a new name is told to be one."""
    state = {f"run-{n}": run(f"run-{n}", n) for n in range(len(relations))}
    found = choose(state, dict(zip(state, relations, strict=True)), HERE)
    order: list[Relation] = ["named", "same", "moved"]
    nearest = next((it for it in order if it in relations), None)
    if nearest is None:
        copy_of = f"run-{len(relations) - 1}" if relations else ""
        assert found == Recognised(run_id(HERE), copy_of)
    else:
        last = max(n for n, it in enumerate(relations) if it == nearest)
        assert found == Recognised(f"run-{last}")


def test_a_name_that_another_path_has_becomes_longer() -> None:
    """Its 24 bits can be the same; the whole path is compared."""
    taken = {run_id(HERE, digits): run("any") for digits in (6, 7)}
    assert choose(taken, {}, HERE).name == run_id(HERE, 8)
    assert run_id(HERE, 8).startswith(run_id(HERE))


def test_a_moved_run_takes_its_checkpoints_along() -> None:
    """Paths below the old directory are below the new one; all others stay."""
    files = (WeightFile("a.safetensors", 1, 2, 3),)
    state = evolve(
        {},
        [
            ("r", RunStarted("/old", "", (), {}, "1"), START),
            ("r", CheckpointFound(1, "one", "/old/one", "grows"), START),
            ("r", CheckpointCompleted(2, "two", "/old", "lora", "", files, "d"), START),
            ("r", CheckpointCompleted(0, "base-model", "/older/x", "base", "", (), "d"), START),
            ("r", OutputDirMoved("/new"), START + timedelta(1)),
        ],
    )
    moved = state["r"]
    assert (moved.first_dir, moved.output_dir, moved.there) == (
        "/old",
        "/new",
        START + timedelta(1),
    )
    paths = [it.path for it in moved.checkpoints.values()]
    assert paths == ["/new/one", "/old", "/older/x"]


def test_checkpoints_of_one_name_that_hold_other_files_are_of_two_runs(tmp_path: Path) -> None:
    """checkpoint-2 of a LoRA is asked for the file of a whole model, which is not in it."""
    files = (WeightFile("unet/diffusion_pytorch_model.safetensors", 1, 2, 3),)
    whole = CheckpointCompleted(2, "checkpoint-2", "/old/checkpoint-2", "full", "unet", files, "d")
    begun = RunStarted("/old", "", (), {}, "1")
    known = evolve({}, [("r", begun, START), ("r", whole, START)])["r"]
    (tmp_path / "checkpoint-2").mkdir()
    assert related(known, tmp_path) is None
    (tmp_path / "checkpoint-2" / "unet").write_bytes(b"")
    assert related(known, tmp_path) is None


def test_a_log_that_is_not_there_knows_nobody(tmp_path: Path) -> None:
    """And nothing is made."""
    log = tmp_path / "state/clipwatch.db"
    assert known_runs(log) == {}
    assert recognise(log, tmp_path).name == run_id(tmp_path)
    assert not log.parent.exists()


def test_a_link_in_a_circle_is_nobodys(tmp_path: Path) -> None:
    """An output directory that cannot be looked into is a new run's, by its path."""
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert related(run("r"), circle) is None
    assert recognise(tmp_path / "none.db", circle).name == run_id(circle)
