"""Checkpoints that are single files in one folder, counted in epochs, by docs/plugins.md.

All but the evaluator is real: the package is found by its entry point, files are watched, kept from
deletion, and scored to the end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.delivery.channels import as_json
from clipwatch.domain.events import AdviceGiven, CheckpointCompleted, CheckpointFound
from clipwatch.domain.kinds import StageMode
from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.domain.written import decode, encode
from clipwatch.layouts import look_once
from clipwatch.layouts.claims import installed
from clipwatch.loop.narration import story
from clipwatch.results import told, view
from clipwatch.results.reading import series_of
from clipwatch.results.table import table
from clipwatch_adapters.shared.told import config
from layout_kit import SETTLE, Clock, look, scanner, simpletuner, verdict, weights
from package_kit import package
from staging_kit import desk, intact, seen
from world import World, checkpoint

LORA = {"unet.mid.lora_A.weight": 8, "unet.mid.lora_B.weight": 8}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with package(tmp_path / "site", monkeypatch):
        yield


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return an empty output directory."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def epoch(output: Path, number: int, value: float = 1.0) -> Path:
    """Write the LoRA of an epoch."""
    path = output / f"mine-{number:06}.safetensors"
    weights(path, value, **LORA)
    return path


def test_layouts_of_other_packages_come_before_ours() -> None:
    """What takes whatever is left is asked last."""
    names = list(installed())
    assert names[:2] == ["epoch_files", "simpletuner"]
    assert names[-3:] == ["pipeline_folder", "diffusers_script", "step_folder"]


def test_single_files_lie_beside_folders(output: Path) -> None:
    """Each is a checkpoint by itself, with the flat folder as its place; other files are none."""
    epoch(output, 3)
    epoch(output, 6, 2.0)
    weights(output / "mine.safetensors", **LORA)
    simpletuner(output / "checkpoint-5")
    seen = look(output, Clock(ahead=3600))
    assert list(seen) == ["mine-000006.safetensors", "checkpoint-5", "mine-000003.safetensors"]
    third = seen["mine-000003.safetensors"]
    assert (third.step, third.unit, third.path) == (3, "epoch", output)
    assert isinstance(third.verdict, Whole)
    assert [file.path for file in third.verdict.weights.files] == ["mine-000003.safetensors"]
    assert (seen["checkpoint-5"].unit, seen["checkpoint-5"].path.name) == ("step", "checkpoint-5")


# Half-written -------------------------------------------------------------------------------------


@pytest.fixture
def whole_file(tmp_path: Path) -> bytes:
    """Return the bytes of a LoRA's file."""
    return epoch(tmp_path, 1).read_bytes()


def test_a_file_that_grows_is_not_read(output: Path, whole_file: bytes) -> None:
    """At no length but the last, and then only after the settling time."""
    clock = Clock()
    scanning = scanner(output, clock)
    path = output / "mine-000001.safetensors"
    for length in range(0, len(whole_file), 37):
        path.write_bytes(whole_file[:length])
        clock.ahead += 2 * SETTLE
        assert isinstance(verdict(scanning), Partial), length
    path.write_bytes(whole_file)
    clock.ahead += 2 * SETTLE
    assert isinstance(verdict(scanning), Partial)
    assert scanning.settling
    clock.ahead += SETTLE
    assert isinstance(verdict(scanning), Whole)


def test_a_file_of_reserved_space_is_not_read(output: Path) -> None:
    """Its size and header are right from the start; its end is not written."""
    clock = Clock()
    scanning = scanner(output, clock)
    tensors = {name: np.ones(100_000, np.float32) for name in LORA}
    save_file(tensors, output / "made")
    data = (output / "made").read_bytes()
    path = output / "mine-000001.safetensors"
    with path.open("wb") as file:
        file.truncate(len(data))
        file.write(data[:4096])
    for _ in range(3):
        clock.ahead += 2 * SETTLE
        found = verdict(scanning)
        assert isinstance(found, Partial)
        assert "its end is not written" in found.reason
    path.write_bytes(data)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead += SETTLE
    assert isinstance(verdict(scanning), Whole)


def test_a_temporary_file_is_none_until_it_is_renamed(output: Path, whole_file: bytes) -> None:
    """And what is saved again under the same name is other weights."""
    clock = Clock()
    scanning = scanner(output, clock)
    (output / "mine-000001.safetensors.tmp").write_bytes(whole_file[:100])
    assert scanning.scan() == []
    (output / "mine-000001.safetensors.tmp").write_bytes(whole_file)
    (output / "mine-000001.safetensors.tmp").rename(output / "mine-000001.safetensors")
    assert isinstance(verdict(scanning), Partial)
    clock.ahead += SETTLE
    first = verdict(scanning)
    epoch(output, 1, 2.0)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead += SETTLE
    second = verdict(scanning)
    assert isinstance(first, Whole)
    assert isinstance(second, Whole)
    assert first.digest != second.digest


def test_what_a_killed_writer_leaves_is_given_up(output: Path, whole_file: bytes) -> None:
    """It is waited for while it may go on, whatever else comes into the folder."""
    clock = Clock()
    scanning = scanner(output, clock)
    (output / "mine-000001.safetensors").write_bytes(whole_file[:-1])
    assert isinstance(verdict(scanning), Partial)
    (output / "notes.txt").write_text("something else")
    clock.ahead += 700
    found = verdict(scanning)
    assert isinstance(found, Unusable)
    assert found.kind == "abandoned"


def test_a_new_file_does_not_have_the_others_looked_into(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at a thousand of them costs next to nothing, though their folder changes."""
    import epoch_files  # type: ignore[import-not-found]  # as it is installed here

    asked: list[str] = []
    inspect = epoch_files.inspect

    def noted(candidate: object, weights: str) -> object:
        asked.append(candidate.name)  # type: ignore[attr-defined]
        return inspect(candidate, weights)

    monkeypatch.setattr(epoch_files, "inspect", noted)
    epoch(output, 1)
    clock = Clock(ahead=3600)
    scanning = scanner(output, clock)
    scanning.scan()
    clock.ahead += 5  # it is no longer so young that its times need not tell
    scanning.scan()
    asked.clear()
    epoch(output, 2)
    scanning.scan()
    assert asked == ["mine-000002.safetensors"]


# Kept from deletion -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pin", "copy", "auto"])
def test_a_single_file_outlives_its_deletion(output: Path, tmp_path: Path, mode: StageMode) -> None:
    """Nothing else of the flat folder is kept."""
    epoch(output, 2)
    found = seen(epoch(output, 1))
    assert found.path == str(output)
    with desk(tmp_path / "staged", mode) as at:
        held = at.keep(found)
        (output / "mine-000001.safetensors").unlink()
        assert intact(held, found)
        assert os.listdir(held.path) == ["mine-000001.safetensors"]


def test_a_deleted_file_is_told_as_vanished(output: Path, tmp_path: Path) -> None:
    """The reason names the file."""
    found = seen(epoch(output, 1))
    (output / "mine-000001.safetensors").unlink()
    with desk(tmp_path / "staged", "copy") as at:
        kind, problem = at.fail(found)
    assert (kind, problem) == ("vanished", f"{output}/mine-000001.safetensors is gone")


def test_what_else_lies_in_the_folder_takes_no_room(output: Path, tmp_path: Path) -> None:
    """Space is asked for as the file's, not as the whole output directory's."""
    with (output / "dataset.bin").open("wb") as large:
        large.truncate(2**42)
    found = seen(epoch(output, 1))
    with desk(tmp_path / "staged", "auto") as at:
        assert at.keep(found).how != "in place"


# To the end ---------------------------------------------------------------------------------------


def test_epochs_are_scored_to_the_end(tmp_path: Path) -> None:
    """One that is deleted before its turn is scored from what was kept; epochs are called so."""
    world = World(tmp_path, settle_seconds=0)
    for number in (3, 6):
        epoch(world.output, number, number / 10)
    assert world.once() == 0
    assert [step for step, _ in world.rows().values()] == [6, 3]
    assert {row.step: (row.unit, row.state) for row in view.rows(world.run)} == {
        3: ("epoch", "published"),
        6: ("epoch", "published"),
    }
    assert table(world.run).split()[0] == "epoch"
    (run,) = told.as_json({"": world.run}, datetime.now(UTC), {})["runs"]
    assert {it["unit"] for it in run["checkpoints"]} == {"epoch"}
    assert "mine-000003.safetensors: saved by the trainer (LoRA, epoch 3), now in the queue" in [
        line for recorded in world.logged for line in story(recorded.event).split("; ")
    ]
    series = series_of(world.run, world.run.protocol, world.settings.paths.state_dir)
    assert series.unit == config(series)["step_unit"] == "epoch"
    shutil.rmtree(world.output)
    world.output.mkdir()
    assert world.once() == 0
    assert {row.state for row in view.rows(world.run)} == {"published"}


def test_one_run_counts_in_one_unit(tmp_path: Path) -> None:
    """What came first decides; the other is left out with the reason, and no curve shows both."""
    world = World(tmp_path, settle_seconds=0)
    epoch(world.output, 3)
    assert world.once() == 0
    checkpoint(world.output, 100)
    assert world.once() == 0
    rows = {row.name: row for row in view.rows(world.run)}
    assert rows["mine-000003.safetensors"].state == "published"
    assert rows["checkpoint-100"].state == "discarded"
    assert rows["checkpoint-100"].reason == (
        "it counts steps, where the run counts epochs: one curve cannot show both"
    )
    assert world.run.unit == "epoch"


def test_the_unit_is_in_the_log_and_old_logs_count_steps() -> None:
    """An event that was written before there were units is read as one of steps."""
    found = CheckpointFound(3, "mine-000003.safetensors", "/out", "half", "epoch")
    assert decode(*encode(found)) == found
    kind, data = encode(CheckpointCompleted(5, "a", "/out/a", "lora", "", (), "0" * 16))
    old = json.loads(data)
    del old["unit"]
    read = decode(kind, json.dumps(old))
    assert isinstance(read, CheckpointCompleted)
    assert read.unit == "step"


def test_advice_speaks_of_epochs() -> None:
    """In the webhook's text as in its fields."""
    given = AdviceGiven("mine-000003.safetensors/a/b", 3, "low", "the mean is low", "", "epoch")
    sent = as_json("out-1", given)
    assert (sent["step"], sent["unit"]) == (3, "epoch")
    assert sent["text"] == "out-1, epoch 3: low: the mean is low"


def test_one_file_can_be_looked_at_by_name(output: Path) -> None:
    """`clipwatch score` takes it at once; a file that no layout knows is told as such."""
    found = look_once(epoch(output, 12), "live")
    assert isinstance(found.verdict, Whole)
    assert (found.step, found.unit, found.name) == (12, "epoch", "mine-000012.safetensors")
    assert "no EMA weights" in str(look_once(output / found.name, "ema").verdict)
    (output / "notes.txt").write_text("")
    assert look_once(output / "notes.txt", "live").verdict == Unusable(
        "unsupported", "no layout knows such a file"
    )
