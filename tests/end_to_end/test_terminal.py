"""Real commands in a real terminal: a live view that fits it, and ends as it should."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from clipwatch.cli import main
from real_world import clipwatch, command, environment, until
from world import World, checkpoint

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")
COLOURS = re.compile(r"\x1b\[(?:\d+;)*[349]\d[;m]")


class Screen:
    """A terminal of 80x24 in which a command runs; everything that it was sent is kept."""

    def __init__(self, process: subprocess.Popen[bytes], own: int) -> None:
        self.process = process
        self._own = own
        self._sent = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """What was sent so far, with its escape sequences."""
        return self._sent.decode(errors="replace")

    @property
    def plain(self) -> str:
        """The same without them."""
        return ESCAPES.sub("", self.text)

    def ends(self) -> int:
        """Wait for the end, and return its code."""
        code = self.process.wait(60)
        self._reader.join()
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._own, 65536)
            except OSError:  # EIO: nobody has the other end any more
                return
            if not data:
                return
            self._sent += data


@contextmanager
def terminal(cwd: Path, *arguments: str, **environ: str) -> Iterator[Screen]:
    """Run a command in a terminal of its own."""
    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {k: v for k, v in environment().items() if k not in ("COLUMNS", "NO_COLOR", "LINES")}
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env={**kept, "TERM": "xterm-256color", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = Screen(process, own)
    try:
        yield screen
    finally:
        process.kill()
        process.wait()
        screen._reader.join()
        os.close(own)


def scored(folder: Path) -> World:
    """Score two checkpoints, and leave one that is not complete, with a name for wide cells."""
    world = World(folder)
    for step in (100, 200):
        checkpoint(world.output, step, step)
    (checkpoint(world.output, 300) / ".guard").unlink()
    assert world.once() == 0
    return world


def test_status_fits_a_terminal_and_has_colours(tmp_path: Path) -> None:
    """No line is wider than 80 cells but for a place to copy; NO_COLOR is obeyed."""
    scored(tmp_path)
    with terminal(tmp_path, "status", "--state-dir", "state") as screen:
        assert screen.ends() == 0
    assert "\x1b[32mpublished" in screen.text
    assert COLOURS.search(screen.text)
    lines = screen.plain.splitlines()
    assert any("checkpoint-200" in it for it in lines)
    assert all(cell_len(it) <= 80 or "/" in it for it in lines)
    with terminal(tmp_path, "status", "--state-dir", "state", NO_COLOR="1") as screen:
        assert screen.ends() == 0
    assert not COLOURS.search(screen.text)


def test_status_in_a_pipe_has_80_columns_and_no_escape(tmp_path: Path) -> None:
    """Whatever the terminal around is like."""
    scored(tmp_path)
    told = clipwatch("status", "--state-dir", "state", cwd=tmp_path).stdout
    assert "\x1b" not in told
    assert all(cell_len(it) <= 80 or "/" in it for it in told.splitlines())


def test_watch_shows_what_is_new_and_ends_quietly(tmp_path: Path) -> None:
    """It waits for a log, draws what comes, and Ctrl-C is no error."""
    with terminal(tmp_path, "status", "--watch", "--state-dir", "state") as screen:
        until(lambda: "nothing yet in state" in screen.plain)
        world = scored(tmp_path)
        until(lambda: "checkpoint-200" in screen.plain)
        checkpoint(world.output, 400, 4)
        assert world.once() == 0
        until(lambda: "checkpoint-400" in screen.plain)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.ends() == 0
    assert "Traceback" not in screen.plain
    assert "Aborted" not in screen.plain
    assert (
        screen.text.count("\x1b[?25h") == screen.text.count("\x1b[?25l") > 0
    )  # the cursor is back


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_watch_is_for_a_terminal(tmp_path: Path, more: list[str]) -> None:
    """A program that asks for it would never come to an end."""
    ended = CliRunner().invoke(main, ["status", "--watch", *more, "--state-dir", str(tmp_path)])
    assert ended.exit_code == 2
    assert "--watch is for a terminal" in ended.stderr


@pytest.mark.thorough
def test_start_in_a_terminal_has_the_view_under_its_lines(folder: Path) -> None:
    """It shows what the log has, is gone at the end, and the lines are all there."""
    (folder / "output" / "checkpoint-5").mkdir()
    with terminal(folder, "start") as screen:
        until(lambda: "\x1b[2mwaiting" in screen.text)
        assert re.search(r"\d\d:\d\d:\d\d watching ", screen.plain)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.ends() == 0
    assert "stopping" in screen.plain
    assert screen.text.rstrip().rfind("\x1b[?25h") > screen.text.rfind("\x1b[?25l")


@pytest.mark.thorough
def test_start_speaks_objects_to_machines(folder: Path) -> None:
    """Every line of stdout is one, from the first remark to the last; stderr has none of it."""
    (folder / "output" / "checkpoint-5").mkdir()
    ended = clipwatch("start", "--once", "--log-format", "json", cwd=folder)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert all(it.keys() == {"time", "run", "event", "fields", "text"} for it in lines)
    kinds = [it["event"] for it in lines]
    assert {"Said", "RunStarted", "CheckpointFound"} <= set(kinds)
    assert not [it for it in ended.stderr.splitlines() if not it.startswith("Note: ")]
