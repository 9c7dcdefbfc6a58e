"""`clipwatch demo` says at once what it is about, keeps to its time, and tells each score."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console as RichConsole

from clipwatch.demo.pace import FEWEST, Pace
from clipwatch.demo.telling import Drawn, Scene, Told
from world import World, checkpoint


def test_the_first_word_needs_no_torch(tmp_path: Path) -> None:
    """The introduction is printed before anything is imported that takes seconds."""
    code = (
        "import sys; from pathlib import Path; from clipwatch.demo import show\n"
        "def prepare(*_, **__): sys.exit(any(it in sys.modules for it in ('torch', 'numpy')))\n"
        "show.prepare = prepare\n"
        "show.show(Path(sys.argv[1]), steps=None, lora=False)\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "demo")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "learns on this" in done.stdout
    assert "five at most" in done.stdout


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """One line that names the folder and what to do, and 2."""
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "demo"
    line = [sys.executable, "-m", "clipwatch", "demo", "--directory", str(directory)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"the folder {directory} cannot be made or written" in done.stderr
    assert "name another with --directory" in done.stderr


def trained(seconds: float, each: float) -> tuple[list[int], list[int], float]:
    """Make up to 500 steps of so many seconds each in a limited time, and save each 50th.

    Returns:
        The positions, the steps after which a checkpoint was saved, and the time that it took.
    """
    now = 0.0
    pace = Pace(500, 50, seconds, lambda: now)
    positions, saved, done = [0], [], 0
    while positions[-1] < 500:
        done += 1
        now += each
        positions.append(pace.position(done))
        if pace.saves(done, positions[-1]):
            saved.append(done)
    return positions, saved, now


def test_a_fast_machine_makes_all_steps() -> None:
    """Where the time is enough, or is no limit, position and checkpoints follow the steps alone."""
    for seconds in (0.0, 100.0):
        positions, saved, _ = trained(seconds, 0.1)
        assert positions == list(range(501))
        assert saved == list(range(50, 501, 50))


def test_a_slow_machine_is_through_in_time() -> None:
    """The clock runs ahead: fewer steps, all of the way, and checkpoints no closer than FEWEST."""
    positions, saved, now = trained(100.0, 1.0)
    assert now == 100
    assert positions[-1] == 500
    assert sorted(positions) == positions
    assert saved == [20, 40, 60, 80, 100]
    assert min(b - a for a, b in zip([0, *saved], saved, strict=False)) >= FEWEST


def test_the_last_step_is_always_saved() -> None:
    """However few there were: a training without a checkpoint would show nothing."""
    _, saved, _ = trained(10.0, 4.0)
    assert saved == [3]


TRAINING = ["some library's remark", "drawing and encoding pictures", "step 40/200 loss 0.5 8 s"]


def test_what_goes_on_is_told_by_the_training() -> None:
    """From its last word on its steps come what is left and how long all of it takes here."""
    assert Scene(None, []).now == "loading torch, making the model"
    assert Scene(None, TRAINING[:1]).now == "loading torch, making the model"
    assert Scene(None, TRAINING[:2]).now == "drawing and encoding pictures"
    assert Scene(None, TRAINING[:2]).pace == ""
    assert Scene(None, TRAINING).now == "training: step 40 of about 200, loss 0.5, 32 s left"
    assert Scene(None, TRAINING).pace == (
        "by its first 40 steps the training takes about 40 s here"
    )
    assert "has ended" in Scene(None, TRAINING, over=True).now


def test_a_pipe_gets_a_line_for_each_score(tmp_path: Path) -> None:
    """Once, in the order in which they came, however often one looks; a drawing has them all."""
    world = World(tmp_path)
    file = StringIO()
    with Told(RichConsole(file=file, width=300)) as told:
        for step in (100, 200):
            checkpoint(world.output, step)
            assert world.once() == 0
            told.show(Scene(world.run, TRAINING))
            told.show(Scene(world.run, TRAINING))
    lines = [line.split()[1] for line in file.getvalue().splitlines() if "clip/mean" in line]
    assert lines == ["checkpoint-100:", "checkpoint-200:"]
    assert file.getvalue().count("takes about 40 s here") == 1
    drawn = StringIO()
    with Drawn(RichConsole(file=drawn, width=300, force_terminal=True)) as live:
        live.show(Scene(world.run, TRAINING))
    assert "checkpoint-200" in drawn.getvalue()
    assert "step 40 of about 200" in drawn.getvalue()
