"""The evaluator's process from the daemon's side: however it ends, the daemon hears of it."""

from __future__ import annotations

import ast
import os
import queue
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import clipwatch
import clipwatch_adapters
from clipwatch.evaluator.messages import Evaluate, Failed, Finished, Loaded, Reply
from clipwatch.evaluator.process import EvaluatorProcess, ending, environment
from test_numbers import PROTOCOL

REQUEST = Evaluate("/c", "lora", "", (), PROTOCOL, (), None, "cpu", 1)
Start = Callable[[str], tuple[EvaluatorProcess, "queue.Queue[Reply]"]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that starts an evaluator whose program is a shell script."""

    def started(script: str) -> tuple[EvaluatorProcess, queue.Queue[Reply]]:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        replies: queue.Queue[Reply] = queue.Queue()
        return EvaluatorProcess(replies.put), replies

    return started


def line(reply: Reply) -> str:
    return f"echo '{msgspec.json.encode(reply).decode()}'"


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [
        ("kill -9 $$", "killed by SIGKILL (the system was out of memory?)"),
        ("kill -7 $$", "killed by SIGBUS (the checkpoint was cut short while it was read?)"),
        ("exit 3", "ended with exit code 3"),
        ('printf \'{"type":"Scor\'; kill -9 $$', "killed by SIGKILL"),
        ("echo 'no JSON at all'; sleep 60", "killed by SIGKILL"),
    ],
)
def test_an_evaluator_that_ends_in_the_middle_is_reported(
    start: Start, last_words: str, reason: str
) -> None:
    """Also in the middle of a line: what came before stands, and then it is "killed"."""
    child, replies = start(f"read request\n{line(Loaded({'a': 'b'}))}\n{last_words}")
    child.evaluate(REQUEST)
    assert replies.get(timeout=60) == Loaded({"a": "b"})
    failed = replies.get(timeout=60)
    assert isinstance(failed, Failed)
    assert failed.kind == "killed"
    assert reason in failed.reason
    assert not child.alive
    child.kill()
    child._reader.join()


def test_an_evaluator_that_was_gone_before_the_request_is_reported(start: Start) -> None:
    """A request to a dead process is answered, not forgotten."""
    child, replies = start("exit 0")
    child._child.wait()
    child._reader.join()
    child.evaluate(REQUEST)
    assert isinstance(replies.get(timeout=60), Failed)
    assert replies.empty()
    child.kill()


def test_an_evaluator_that_ends_between_evaluations_is_no_failure(start: Start) -> None:
    """After Finished it owes nothing."""
    child, replies = start(f"read request\n{line(Finished(0, 1.0))}")
    child.evaluate(REQUEST)
    assert replies.get(timeout=60) == Finished(0, 1.0)
    child._reader.join()
    assert replies.empty()
    child.kill()


def test_the_evaluator_sees_no_secrets_and_takes_half_of_the_cores() -> None:
    """Keys stay with the daemon, but for the Hub's token; OMP_NUM_THREADS is the user's to set."""
    given = {"WANDB_API_KEY": "k", "AWS_SECRET": "s", "HF_TOKEN": "t", "PATH": "/bin"}
    assert environment(given, 16) == {"HF_TOKEN": "t", "PATH": "/bin", "OMP_NUM_THREADS": "8"}
    assert environment({"OMP_NUM_THREADS": "3"}, 16) == {"OMP_NUM_THREADS": "3"}
    assert environment({}, 1) == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("code", [0, 1, *(-number for number in signal.Signals)])
def test_every_ending_has_words(code: int) -> None:
    """Whatever the return code, there is a sentence for it."""
    assert ending(code).startswith("the evaluator ")


def imports(package: Path) -> set[str]:
    """Return the first names of all modules that a package's files import."""
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_the_daemon_never_imports_an_adapter() -> None:
    """Adapters import the daemon, never the reverse; and no adapter imports torch."""
    daemon, adapters = (Path(os.fspath(p.__path__[0])) for p in (clipwatch, clipwatch_adapters))
    assert "clipwatch_adapters" not in imports(daemon)
    assert "clipwatch" in imports(adapters)
    assert {"torch", "diffusers", "transformers"}.isdisjoint(imports(adapters))
