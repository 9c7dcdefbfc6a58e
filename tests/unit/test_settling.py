"""When a checkpoint counts as complete, by clocks that may jump, and how long one is waited for."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from clipwatch.domain.sighting import Partial, Unusable, Whole
from layout_kit import (
    LORA,
    Clock,
    diffusers_lora,
    full,
    look,
    scanner,
    simpletuner,
    tick,
    verdict,
    weights,
)


def test_an_unmarked_checkpoint_must_stay_unchanged(tmp_path: Path) -> None:
    """A diffusers checkpoint is whole after the settling time; a rewrite starts it anew."""
    clock = Clock()
    folder = full(tmp_path / "checkpoint-10")
    (folder / "random_states_0.pkl").write_bytes(b"")
    scanning = scanner(tmp_path, clock)
    assert isinstance(verdict(scanning), Partial)
    assert scanning.settling
    clock.ahead = 9
    assert isinstance(verdict(scanning), Partial)
    full(folder, value=2.0)
    clock.ahead = 12
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 23
    settled = verdict(scanning)
    assert isinstance(settled, Whole)
    assert not scanning.settling
    assert (settled.weights.kind, settled.weights.component) == ("full", "unet")


def test_what_was_whole_before_a_restart_need_not_settle_again(tmp_path: Path) -> None:
    """A new scanner that is told of a checkpoint takes it as it is, unless its files changed."""
    folder = full(tmp_path / "checkpoint-10")
    whole = look(tmp_path, Clock(ahead=3600))["checkpoint-10"].verdict
    assert isinstance(whole, Whole)
    again = scanner(tmp_path, Clock(), known={"checkpoint-10": whole})
    assert verdict(again) is whole
    full(folder, value=3.0)
    assert isinstance(verdict(again), Partial)


def test_a_checkpoint_that_lay_there_long_needs_no_wait(tmp_path: Path) -> None:
    """A finished run is evaluated at first sight."""
    full(tmp_path / "checkpoint-10")
    assert isinstance(look(tmp_path, Clock(ahead=3600))["checkpoint-10"].verdict, Whole)


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_jump_of_the_wall_clock_neither_hurries_nor_delays(tmp_path: Path, jump: float) -> None:
    """What is written while we watch settles by a clock that nobody sets."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    assert scanning.scan() == []
    diffusers_lora(tmp_path / "checkpoint-10")
    assert isinstance(verdict(scanning), Partial)
    clock.jump = jump
    clock.ahead = 9.9
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 10
    assert isinstance(verdict(scanning), Whole)


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_files_that_tell_nonsense_of_their_age_settle_all_the_same(
    tmp_path: Path, jump: float
) -> None:
    """Files from the future or the distant past, seen while we watch, are waited for as others."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    folder = diffusers_lora(tmp_path / "checkpoint-10")
    os.utime(folder / LORA, (time.time() + jump,) * 2)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 10
    assert isinstance(verdict(scanning), Whole)


def test_files_from_the_future_are_not_waited_for_at_the_start(tmp_path: Path) -> None:
    """A wall clock that was put back before we started costs one settling time, not the jump."""
    clock = Clock()
    clock.jump = -1e6
    diffusers_lora(tmp_path / "checkpoint-10")
    scanning = scanner(tmp_path, clock)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 10
    assert isinstance(verdict(scanning), Whole)


def test_the_last_file_of_accelerate_shortens_the_wait(tmp_path: Path) -> None:
    """Without random_states_0.pkl a folder may be half written and waits six times as long."""
    clock = Clock()
    full(tmp_path / "checkpoint-10")
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    clock.ahead = 59
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 60
    assert isinstance(verdict(scanning), Whole)


def test_accelerates_state_may_still_get_its_lora(tmp_path: Path) -> None:
    """The diffusers LoRA scripts write the LoRA after all else: not discarded before it settled."""
    clock = Clock()
    folder = tmp_path / "checkpoint-5"
    weights(folder / "model.safetensors")
    (folder / "random_states_0.pkl").write_bytes(b"")
    scanning = scanner(tmp_path, clock)
    waiting = verdict(scanning)
    assert isinstance(waiting, Partial)
    assert waiting.reason == "nothing in it so far that can be evaluated"
    clock.ahead = 5
    weights(folder / LORA)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 14
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 25
    assert isinstance(verdict(scanning), Whole)
    (folder / LORA).unlink()
    scanning.scan()
    clock.ahead = 36
    assert isinstance(verdict(scanning), Unusable)


@pytest.mark.parametrize("jump", [-1e9, 0.0, 1e9])
def test_an_unfinished_checkpoint_is_given_up_after_ten_minutes(
    tmp_path: Path, jump: float
) -> None:
    """Nobody waits for ever, whatever the wall clock says; and it comes back when it changes."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    folder = simpletuner(tmp_path / "checkpoint-1", guard=False)
    (tmp_path / "checkpoint-0").mkdir()
    (tmp_path / "checkpoint-0" / ".guard").write_text("")
    scanning.scan()
    clock.jump = jump
    clock.ahead = 599
    assert isinstance(scanning.scan()[0].verdict, Partial)
    assert not scanning.settling
    clock.ahead = 600
    told = scanning.scan()[0].verdict
    assert isinstance(told, Unusable)
    assert told.kind == "abandoned"
    assert told.reason.startswith("never finished, and nothing in it changes any more: no .guard")
    (folder / "optimizer.bin").write_bytes(b"more")
    assert isinstance(scanning.scan()[0].verdict, Partial)
    (folder / ".guard").write_text("complete\n")
    assert isinstance(scanning.scan()[0].verdict, Whole)


def test_one_that_was_left_behind_is_given_up_after_a_minute(tmp_path: Path) -> None:
    """When a whole one was written later nothing will come; the reason then stays as it is."""
    clock = Clock()
    simpletuner(tmp_path / "checkpoint-1", guard=False)
    tick(tmp_path)
    scanning = scanner(tmp_path, clock)
    for step in (2, 3):
        simpletuner(tmp_path / f"checkpoint-{step}")
        scanning.scan()
    clock.ahead = 59
    assert isinstance(scanning.scan()[-1].verdict, Partial)
    clock.ahead = 60
    told = scanning.scan()[-1].verdict
    assert isinstance(told, Unusable)
    assert told.kind == "abandoned"
    simpletuner(tmp_path / "checkpoint-4")
    clock.ahead = 700
    assert scanning.scan()[-1].verdict == told


def test_a_later_step_from_an_earlier_start_does_not_count_as_later(tmp_path: Path) -> None:
    """After a resume from an older checkpoint the steps begin again below what is whole already."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    simpletuner(tmp_path / "checkpoint-1000")
    scanning.scan()
    simpletuner(tmp_path / "checkpoint-600", guard=False)
    scanning.scan()
    clock.ahead = 599
    assert isinstance(scanning.scan()[1].verdict, Partial)


def test_what_lay_unfinished_before_the_start_is_told_at_once(tmp_path: Path) -> None:
    """The times of the files count at the first look."""
    simpletuner(tmp_path / "checkpoint-1", guard=False)
    simpletuner(tmp_path / "checkpoint-2")
    assert isinstance(look(tmp_path)["checkpoint-1"].verdict, Partial)
    told = look(tmp_path, Clock(ahead=3600))["checkpoint-1"].verdict
    assert isinstance(told, Unusable)
    assert told.kind == "abandoned"


def test_damage_behind_a_marker_is_told_after_the_settling_time(tmp_path: Path) -> None:
    """Nothing more will come when the trainer says complete; a repair brings it back."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    folder = simpletuner(tmp_path / "checkpoint-1")
    whole = (folder / LORA).read_bytes()
    (folder / LORA).write_bytes(whole[:-1])
    assert isinstance(verdict(scanning), Partial)
    assert scanning.settling
    clock.ahead = 10
    told = verdict(scanning)
    assert isinstance(told, Unusable)
    assert told.kind == "unreadable"
    assert told.reason.startswith(f"marked as complete, but {LORA} is not whole: ")
    (folder / LORA).unlink()
    scanning.scan()
    clock.ahead = 20
    assert "marked as complete, but no weights in it yet" in str(verdict(scanning))
    simpletuner(folder)
    assert isinstance(verdict(scanning), Whole)


# A run that is taken up again --------------------------------------------------------------------


def test_the_same_step_saved_again_is_another_checkpoint(tmp_path: Path) -> None:
    """After a resume the same names come back: other weights give another digest, once settled."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    diffusers_lora(tmp_path / "checkpoint-5", 1.0)
    scanning.scan()
    clock.ahead = 10
    first = verdict(scanning)
    diffusers_lora(tmp_path / "checkpoint-5", 2.0)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 20
    second = verdict(scanning)
    diffusers_lora(tmp_path / "checkpoint-5", 1.0)
    scanning.scan()
    clock.ahead = 30
    third = verdict(scanning)
    assert isinstance(first, Whole)
    assert isinstance(second, Whole)
    assert isinstance(third, Whole)
    assert first.digest == third.digest != second.digest


def test_a_guard_speaks_only_of_weights_older_than_itself(tmp_path: Path) -> None:
    """Weights that are written again under a standing guard must settle."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    folder = simpletuner(tmp_path / "checkpoint-5")
    assert isinstance(verdict(scanning), Whole)
    tick(tmp_path)
    weights(folder / LORA, 2.0)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 10
    assert isinstance(verdict(scanning), Whole)


def test_a_run_deleted_and_started_again_is_seen_anew(tmp_path: Path) -> None:
    """The same folder and steps with other weights: nothing of the old run is taken for new."""
    clock = Clock()
    output = tmp_path / "output"
    scanning = scanner(output, clock)
    for step in (5, 10):
        diffusers_lora(output / f"checkpoint-{step}", 1.0)
    scanning.scan()
    clock.ahead = 10
    old = [sighting.verdict for sighting in scanning.scan()]
    shutil.rmtree(output)
    with pytest.raises(FileNotFoundError):
        scanning.scan()
    diffusers_lora(output / "checkpoint-5", 2.0)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead = 20
    new = verdict(scanning)
    assert isinstance(new, Whole)
    assert all(isinstance(whole, Whole) and whole.digest != new.digest for whole in old)


def test_an_output_directory_that_goes_and_comes_back_is_as_it_was(tmp_path: Path) -> None:
    """A mount that was away for a while: what was whole need not settle again."""
    scanning = scanner(tmp_path / "output")
    simpletuner(tmp_path / "output" / "checkpoint-5")
    before = verdict(scanning)
    (tmp_path / "output").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        scanning.scan()
    (tmp_path / "away").rename(tmp_path / "output")
    assert verdict(scanning) is before
