"""What `--help` says, and what a shell offers at the tab key."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

import click
import pytest

from clipwatch.cli import SECTIONS, main
from places import LOGS, ROOT
from real_world import command


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield (words, command) of a group and of all below it."""
    yield name, group
    for word, below in group.commands.items():
        if isinstance(below, click.Group):
            yield from commands(below, f"{name} {word}")
        else:
            yield f"{name} {word}", below


ALL = dict(commands(main, "clipwatch"))


def helps(name: str) -> str:
    return ALL[name].get_help(click.Context(ALL[name], info_name=name))


def examples(name: str) -> list[str]:
    """Return the lines that a command's help has to type."""
    _, _, below = helps(name).partition("  Examples:\n")
    return [line.strip() for line in below.splitlines()]


def parse(line: str) -> click.Context:
    """Parse a line as the shell and click would, but run nothing."""
    words = list(dropwhile(re.compile(r"\w+=").match, shlex.split(line)))
    if ">" in words:
        words = words[: words.index(">")]
    assert words.pop(0) == "clipwatch", line
    found: click.Command = main
    while isinstance(found, click.Group):
        found = found.commands[words.pop(0)]
    return found.make_context(found.name, words)


@pytest.mark.parametrize("name", ALL)
def test_examples_are_calls_that_are_understood(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command has one or more, of itself or of what is below it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output/checkpoint-500").mkdir(parents=True)
    lines = examples(name)
    assert lines
    for line in lines:
        assert parse(line).command in (it for word, it in ALL.items() if word.startswith(name))


@pytest.mark.parametrize("name", ALL)
def test_help_fits_a_terminal_and_names_units(name: str) -> None:
    """No line is longer than 80 characters; a number says of what it is one."""
    assert max(map(len, helps(name).splitlines())) <= 80
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option) and isinstance(parameter.type, click.IntRange):
            assert parameter.metavar, (name, parameter.name)


def test_commands_stand_in_the_order_in_which_people_need_them() -> None:
    """In sections, each command in one; the first three are how one begins."""
    names = main.list_commands(click.Context(main))
    assert names[:4] == ["demo", "doctor", "start", "status"]
    assert sorted(names) == sorted(main.commands)
    listed = re.findall(r"^  (\w+) {2,}[A-Z]", helps("clipwatch"), re.MULTILINE)
    assert listed == names
    assert all(f"\n{title}:\n" in helps("clipwatch") for title in SECTIONS)
    assert not re.search(r"\w\.\.\.$", helps("clipwatch"), re.MULTILINE)  # each is said in full


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A folder with an old log in it, and a `clipwatch` to be called by name."""
    shutil.copy(LOGS / "format-2.db", tmp_path / "clipwatch.db")
    called = tmp_path / "clipwatch"
    called.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    called.chmod(0o700)
    return tmp_path


def offered(shell: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    script = 'eval "$(_CLIPWATCH_COMPLETE=bash_source clipwatch)"\n'
    script += f"COMP_WORDS=(clipwatch {shlex.join(words)}); COMP_CWORD={len(words)}\n"
    script += '_clipwatch_completion clipwatch; printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{shell}:{os.environ['PATH']}"},
        cwd=shell,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.thorough(but=3)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["start", "status"]),
        (("ra",), ["rank"]),
        (("start", "--print"), ["--print-settings"]),
        (("systemd", "sh"), ["show"]),
        (("best", "--state-dir", ".", ""), ["shapes-0a1b2c"]),
        (("compare", "--state-dir", ".", ""), ["100", "200"]),
        (("compare", "--state-dir", ".", "2"), ["200"]),
        (("retry", "--state-dir", "nowhere", ""), []),
        (("export", "--state-dir", ".", ""), ["shapes-0a1b2c"]),
        (
            ("publish", "--to", ""),
            ["comet_ml", "csv", "jsonl", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"],
        ),
        (("health", "--state-dir", ".", "--run", "sh"), ["shapes-0a1b2c"]),
    ],
)
def test_bash_completes(shell: Path, words: tuple[str, ...], expected: list[str]) -> None:
    """Commands, options, runs and steps; where there is no log, nothing and no word."""
    before = sorted(path.name for path in shell.iterdir())
    assert offered(shell, *words) == expected
    assert sorted(path.name for path in shell.iterdir()) == before


def test_completion_imports_no_torch(shell: Path) -> None:
    """It answers at once, as `status` does."""
    listed = """
import atexit, sys
atexit.register(lambda: print("torch" in sys.modules, "numpy" in sys.modules, file=sys.stderr))
from clipwatch.cli import main
main(prog_name="clipwatch")
"""
    asked = {"_CLIPWATCH_COMPLETE": "bash_complete", "COMP_WORDS": "clipwatch compare ''"}
    done = subprocess.run(
        [sys.executable, "-c", listed],
        env={**os.environ, **asked, "COMP_CWORD": "2", "CLIPWATCH_STATE_DIR": str(shell)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("plain,100\nplain,200\n", "False False\n")


@pytest.mark.parametrize(
    ("shell_name", "has"),
    [
        ("bash", "complete -o nosort -F _clipwatch_completion clipwatch"),
        ("zsh", "#compdef clipwatch"),
        ("fish", "complete --no-files --command clipwatch"),
    ],
)
def test_each_documented_shell_has_its_script(shell: Path, shell_name: str, has: str) -> None:
    """The variable that the manual names makes one, and a shell that is here finds no fault."""
    variable = f"{shell_name}_source"
    page = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    assert f"_CLIPWATCH_COMPLETE={variable} clipwatch" in page
    environ = {**os.environ, "_CLIPWATCH_COMPLETE": variable}
    made = subprocess.run([shell / "clipwatch"], env=environ, capture_output=True, check=False)
    assert (made.returncode, made.stderr) == (0, b"")
    assert has in made.stdout.decode()
    if program := shutil.which(shell_name):
        checked = subprocess.run(
            [program, "-n"], input=made.stdout, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, b"")
