"""What is in hand is told again and again: as a line in a pipe, as a bar in a terminal."""

from __future__ import annotations

import errno
import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from clipwatch.loop.console import JOURNAL_SECONDS, QUIET_SECONDS, TICK_SECONDS, Console


class Terminal(StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class Heard:
    """A console, what was written to it, and its clock."""

    def __init__(self, file: StringIO, *, width: int = 200) -> None:
        self.now = 0.0
        self._file = file
        rich = RichConsole(
            file=file,
            width=width,
            emoji=False,
            highlight=False,
            color_system=None,
            legacy_windows=False,
        )
        self.console = Console(rich, lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.console.tick()

    @property
    def text(self) -> str:
        """All that was written."""
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        """What was said, without the time of day."""
        return [line.partition(" ")[2] for line in self.text.splitlines()]


@pytest.fixture
def pipe() -> Heard:
    """A console that writes into a pipe."""
    return Heard(StringIO())


def test_nothing_in_hand_says_nothing(pipe: Heard) -> None:
    """Silence is right where nobody waits for anything of ours."""
    pipe.console.say("watching")
    pipe.wait(1000)
    assert pipe.lines == ["watching"]


def test_what_lasts_is_told_within_ten_seconds(pipe: Heard) -> None:
    """With what is done about it and for how long, again and again; then no more."""
    assert QUIET_SECONDS + TICK_SECONDS < 10
    pipe.console.working("checkpoint-500", "loading")
    pipe.wait(QUIET_SECONDS - 1)
    assert pipe.lines == []
    pipe.wait(1)
    pipe.console.working("checkpoint-500", "96 of 192 images", 96, 192)
    pipe.wait(QUIET_SECONDS)
    pipe.console.rested("checkpoint-500")
    pipe.wait(QUIET_SECONDS)
    assert pipe.lines == [
        "checkpoint-500: loading (8 s)",
        "checkpoint-500: 96 of 192 images (16 s)",
    ]


def test_any_line_will_do(pipe: Heard) -> None:
    """A line that is said anyway puts the next one off."""
    pipe.console.working("wandb", "publishing")
    pipe.wait(QUIET_SECONDS - 1)
    pipe.console.say("checkpoint-500: loading")
    pipe.wait(QUIET_SECONDS - 1)
    assert pipe.lines == ["checkpoint-500: loading"]


def test_all_that_is_in_hand_is_one_line(pipe: Heard) -> None:
    """However much is done at once, ten seconds cost one line."""
    pipe.console.working("checkpoint-500", "loading")
    pipe.now += 5
    with pipe.console.during("wandb", "publishing [b]"):
        pipe.wait(3)
    assert pipe.lines == ["checkpoint-500: loading (8 s); wandb: publishing [b] (3 s)"]


def test_what_cannot_be_counted_is_told_to_others(pipe: Heard) -> None:
    """What is loaded or published stands in the heartbeat; images are counted in the log."""
    pipe.console.working("checkpoint-500", "96 of 192 images", 96, 192)
    assert pipe.console.doing == ""
    pipe.console.working("checkpoint-500", "loading")
    with pipe.console.during("wandb", "publishing"):
        assert pipe.console.doing == "checkpoint-500: loading; wandb: publishing"


def test_what_failed_is_not_in_hand(pipe: Heard) -> None:
    """An error inside ends it."""
    with pytest.raises(ValueError, match="no"), pipe.console.during("models", "reading"):
        raise ValueError("no")
    pipe.wait(QUIET_SECONDS)
    assert pipe.lines == []


def test_the_journal_is_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of systemd, told by JOURNAL_STREAM, gets a line a minute."""
    with (tmp_path / "journal").open("w+") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        now = 0.0
        console = Console(RichConsole(file=file, width=200), lambda: now)
        console.working("checkpoint-500", "loading")
        now = JOURNAL_SECONDS - 1
        console.tick()
        assert file.tell() == 0
        now = JOURNAL_SECONDS
        console.tick()
        file.flush()
        assert "checkpoint-500: loading (60 s)" in (tmp_path / "journal").read_text()


def test_words_of_others_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like an emoji or like markup may be the name of a folder."""
    console = Console()
    console.say("/runs/:fire:/[red]a[/red] is complete")
    console.close()
    assert "/runs/:fire:/[red]a[/red] is complete\n" in capsys.readouterr().err


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves without our help, carries no markup, and is gone when all is done."""
    monkeypatch.setenv("TERM", "xterm")
    seen = Heard(Terminal())
    seen.console.working("checkpoint-500", "loading [bold] :fire:")
    seen.wait(TICK_SECONDS)
    assert "checkpoint-500: loading [bold] :fire:" in seen.text
    seen.console.working("checkpoint-500", "96 of 192 images", 96, 192)
    seen.console.say("a line above it")
    assert "checkpoint-500: 96 of 192 images" in seen.text
    seen.console.rested("checkpoint-500")
    after = len(seen.text)
    seen.wait(100)
    assert len(seen.text) == after
    seen.console.close()


def test_a_terminal_is_not_made_to_flicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over within a second is never drawn."""
    monkeypatch.setenv("TERM", "xterm")
    seen = Heard(Terminal())
    with seen.console.during("settings", "reading them"):
        seen.wait(TICK_SECONDS / 2)
    assert seen.text == ""


def test_a_forced_colour_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe stays one where FORCE_COLOR makes rich think otherwise, as many CI systems do."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = Heard(StringIO())
    seen.console.working("models", "reading")
    seen.wait(QUIET_SECONDS)
    assert seen.lines == ["models: reading (8 s)"]


def test_a_terminal_that_is_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in hand can be told on and rested when the terminal was closed in between."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    seen = Heard(terminal)
    seen.console.working("checkpoint-500", "loading")
    seen.wait(TICK_SECONDS)

    def hung_up(_: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(terminal, "write", hung_up)
    seen.console.working("checkpoint-500", "96 of 192 images", 96, 192)
    seen.console.rested("checkpoint-500")
    seen.console.close()


def test_nothing_is_drawn_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may have looked at the time just before the console was closed."""
    monkeypatch.setenv("TERM", "xterm")
    seen = Heard(Terminal())
    seen.console.working("checkpoint-500", "loading")
    seen.console.close()
    seen.wait(TICK_SECONDS)
    assert seen.text == ""
