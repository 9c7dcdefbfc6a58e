"""What a trainer has half written is not read, however it writes; what rotation takes is told.

The writers are processes of their own that stop after every piece (see writers.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from clipwatch.cli import main
from clipwatch.doctor.output import look as examined
from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.layouts import Scanner
from clipwatch.results import view
from layout_kit import SETTLE, Clock, scanner, verdict
from trainer_runs import file, written
from world import World
from writers import SEQUENTIAL, content, digest_of, stops, writer

NAMES = {
    "kohya": "shape-step00000500.safetensors",
    "ai-toolkit": "my_lora_000000500.safetensors",
    "OneTrainer": "2026-11-28_00-00-46-save-500-1-20.safetensors",
}


@pytest.mark.parametrize("how", SEQUENTIAL)
@pytest.mark.parametrize("trainer", NAMES)
def test_no_file_is_read_before_it_is_done(trainer: str, how: str, tmp_path: Path) -> None:
    """In place or renamed, however long the writer stalls, and with what others write beside it."""
    source, output = tmp_path / "source.safetensors", tmp_path / "output"
    output.mkdir()
    path = output / NAMES[trainer]
    data = content(source, 1.0)
    final = digest_of(path, source)
    clock = Clock()
    scanning = scanner(output, clock)
    looks = 0
    with writer(how, path, source, stops=True) as process:
        for _ in stops(process):
            for _ in range(3):
                (output / "optimizer.pt").write_bytes(b"%d" % looks)
                found = [it.verdict for it in scanning.scan()]
                complete = path.exists() and path.read_bytes() == data
                assert complete or not any(isinstance(it, Whole) for it in found)
                clock.ahead += SETTLE
                looks += 1
    assert looks >= 30
    scanning.scan()
    clock.ahead += SETTLE
    whole = verdict(scanning)
    assert isinstance(whole, Whole)
    assert whole.digest == final


def test_a_killed_save_file_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    """The library's own writer, killed as soon as anything of it is on the disk."""
    output = tmp_path / "output"
    output.mkdir()
    path = output / NAMES["kohya"]
    program = (
        "import sys, numpy\nfrom safetensors.numpy import save_file\n"
        "tensors = {f'lora_unet_{n}.lora_{half}.weight': numpy.ones((8192, 1024), 'float32')"
        " for n in range(4) for half in ('down', 'up')}\n"
        "print('now', flush=True)\nsave_file(tensors, sys.argv[1])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        while not any(it.stat().st_size for it in output.iterdir()) and process.poll() is None:
            pass
        process.kill()
    clock = Clock()
    scanning = scanner(output, clock)
    size = 8 * 8192 * 1024 * 4
    written_whole = path.exists() and path.stat().st_size > size
    for _ in range(3):
        found = scanning.scan()
        assert written_whole or not any(isinstance(it.verdict, Whole) for it in found)
        clock.ahead += 700


@pytest.fixture
def pipe(tmp_path: Path) -> tuple[Path, Path, Clock, Scanner]:
    """Return a training of diffusion-pipe, one checkpoint of it that begins, a clock, a scanner."""
    run = tmp_path / "20261127_10-00-00"
    folder = run / "step50"
    (folder / "tmp").mkdir(parents=True)
    clock = Clock()
    return run, folder, clock, scanner(tmp_path, clock)


def test_the_stages_of_diffusion_pipe(pipe: tuple[Path, Path, Clock, Scanner]) -> None:
    """tmp/ of every GPU, the weights, the .toml, no tmp/: whole at once then, and not before."""
    _, folder, clock, scanning = pipe
    data = file("dp-flux", "20261127_10-00-00/step50/pytorch_lora_weights.safetensors")
    for stage in ("parts", "half", "weights", "config"):
        match stage:
            case "parts":
                (folder / "tmp/state_dict_0.bin").write_bytes(b"x")
            case "half":
                (folder / "pytorch_lora_weights.safetensors").write_bytes(data[:5000])
            case "weights":
                (folder / "pytorch_lora_weights.safetensors").write_bytes(data)
            case "config":
                (folder / "dp.toml").write_text("save_every_n_steps = 50\n")
        clock.ahead += 2 * SETTLE
        assert isinstance(verdict(scanning), Partial), stage
    (folder / "tmp/state_dict_0.bin").unlink()
    (folder / "tmp").rmdir()
    assert isinstance(verdict(scanning), Whole)


def test_what_diffusion_pipe_never_finished_is_given_up(
    pipe: tuple[Path, Path, Clock, Scanner],
) -> None:
    """It was killed after the weights: no .toml."""
    _, folder, clock, scanning = pipe
    data = file("dp-flux", "20261127_10-00-00/step50/pytorch_lora_weights.safetensors")
    (folder / "pytorch_lora_weights.safetensors").write_bytes(data)
    (folder / "tmp").rmdir()
    assert isinstance(verdict(scanning), Partial)
    clock.ahead += 700
    found = verdict(scanning)
    assert isinstance(found, Unusable)
    assert (found.kind, "no .toml in it" in found.reason) == ("abandoned", True)


def test_a_resumed_training_that_saves_a_step_again_is_waited_for(
    pipe: tuple[Path, Path, Clock, Scanner],
) -> None:
    """The .toml of the first save stands there while the weights are written anew."""
    _, folder, clock, scanning = pipe
    (folder / "tmp").rmdir()
    data = file("dp-flux", "20261127_10-00-00/step50/pytorch_lora_weights.safetensors")
    (folder / "dp.toml").write_text("")
    os.utime(folder / "dp.toml", ns=(1, 1))
    (folder / "pytorch_lora_weights.safetensors").write_bytes(data)
    assert isinstance(verdict(scanning), Partial)
    clock.ahead += SETTLE
    scanning.scan()
    clock.ahead += SETTLE
    assert isinstance(verdict(scanning), Whole)


def test_an_epoch_that_is_half_there_does_not_make_epochs_the_unit(tmp_path: Path) -> None:
    """Its step stands in its metadata, which cannot be read yet."""
    world = World(tmp_path, settle_seconds=0)
    data = file("kohya-locon", "out/shape-000002.safetensors")
    (world.output / "shape-000002.safetensors").write_bytes(data[:100])
    assert world.once() == 0
    assert world.run.unit == "epoch"
    (world.output / "shape-000002.safetensors").write_bytes(data)
    lora(world.output / "shape-step00000018.safetensors", 18)
    assert world.once() == 0
    assert {(it.step, it.unit, it.state) for it in view.rows(world.run)} == {
        (16, "step", "published"),
        (18, "step", "published"),
    }


# Rotation -----------------------------------------------------------------------------------------


def lora(path: Path, step: int, value: float = 0.5, digest: str = "") -> None:
    """Write a LoRA as kohya does."""
    tensors = {f"lora_unet_mid.lora_{half}.weight": np.full(4, value) for half in ("down", "up")}
    save_file(tensors, path, {"ss_steps": str(step), "sshs_model_hash": digest or str(step)})


def test_the_final_file_is_not_scored_again_when_the_last_step_is_deleted(tmp_path: Path) -> None:
    """Not by the same daemon, nor by a later one; other weights in it are."""
    world = World(tmp_path, settle_seconds=0)
    for step in (2, 4):
        lora(world.output / f"a-step{step:08}.safetensors", step, step / 10)
    lora(world.output / "a.safetensors", 4, 0.4)
    assert world.once() == 0
    states = {row.name: row.state for row in view.rows(world.run)}
    assert states == {
        "a-step00000002.safetensors": "published",
        "a-step00000004.safetensors": "published",
        "a.safetensors": "discarded",
    }
    (world.output / "a-step00000004.safetensors").unlink()
    asked = len(world.requests)
    assert world.once() == 0
    assert len(world.requests) == asked
    lora(world.output / "a.safetensors", 8, 0.8)
    assert world.once() == 0
    row = next(it for it in view.rows(world.run) if it.name == "a.safetensors")
    assert (row.step, row.state) == (8, "published")


def test_a_name_that_begins_again_is_another_evaluation(tmp_path: Path) -> None:
    """After --resume sd-scripts counts from the start, and writes over its earlier files."""
    world = World(tmp_path, settle_seconds=0)
    lora(world.output / "a-step00000002.safetensors", 2, 0.2)
    assert world.once() == 0
    lora(world.output / "a-step00000002.safetensors", 2, 0.3, "resumed")
    assert world.once() == 0
    assert len(world.run.scored[world.run.protocol]) == 2
    assert [row.state for row in view.rows(world.run)] == ["published"]


def test_scores_outlive_rotation(tmp_path: Path) -> None:
    """sd-scripts keeps the last ones and deletes the others after the save."""
    world = World(tmp_path, settle_seconds=0)
    written("kohya-lora", tmp_path / "run")
    names = sorted(it.name for it in (tmp_path / "run/out").glob("shape-step*.safetensors"))
    for name in names:
        (tmp_path / "run/out" / name).replace(world.output / name)
    assert world.once() == 0
    for name in names[:2]:
        (world.output / name).unlink()
    assert world.once() == 0
    assert {row.state for row in view.rows(world.run)} == {"published"}


# What is not understood ---------------------------------------------------------------------------


def test_once_ends_with_1_where_nothing_is_understood(tmp_path: Path) -> None:
    """And says what lies there; an empty folder is none of these."""
    world = World(tmp_path, settle_seconds=0)
    assert world.once() == 0
    (world.output / "my_style.safetensors").write_bytes(file("kohya-ti", "out/tok.safetensors"))
    assert world.once() == 1
    told = "1 single .safetensors file whose name tells no step (my_style.safetensors)"
    assert f"nothing was scored, as nothing there is understood: {told}" in world.said
    shown = CliRunner().invoke(main, ["status", "--state-dir", str(tmp_path / "state")]).output
    assert f"nothing in {world.output} is understood: {told}" in " ".join(shown.split())
    as_json = ["status", "--json", "--state-dir", str(tmp_path / "state")]
    [run] = json.loads(CliRunner().invoke(main, as_json).output)["runs"]
    assert run["not_understood"] == told
    [found] = examined(world.settings)
    assert (found.verdict, f"no checkpoint yet, but {told}" in found.found) == ("warn", True)
    lora(world.output / "a-step00000002.safetensors", 2)
    assert world.once() == 0
    assert f"also there: {told}" in world.said


def test_once_ends_with_1_where_all_is_left_out(tmp_path: Path) -> None:
    """The reason names the user's file."""
    world = World(tmp_path, settle_seconds=0)
    unknown = {"hypernetwork.weight": np.zeros((2, 2), np.float32)}
    save_file(unknown, world.output / "tok-step00000002.safetensors")
    assert world.once() == 1
    assert any("tok-step00000002.safetensors: " in line for line in world.said)
