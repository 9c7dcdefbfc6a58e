"""Programs in the evaluator's place: they misbehave, the daemon's side is the real one."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil
import pytest

from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.messages import Evaluate, Reply, Working
from protocols import PROTOCOL

REQUEST = Evaluate("/c", "lora", "", (), PROTOCOL, (), None, "cpu", 1)

BEGIN = """
import ctypes, json, mmap, os, pathlib, signal, subprocess, sys, time
def say(type, **more): print(json.dumps({"type": type, **more}), flush=True)
sys.stdin.readline()
say("Loaded", environment={})
"""
"""The program takes a request and answers Loaded; what a test wants of it comes next."""


class Started:
    """An evaluator whose program is given, and what it reported."""

    def __init__(self, module: str) -> None:
        self.replies: queue.Queue[Reply] = queue.Queue()
        self.handle = EvaluatorProcess(self.replies.put, module)
        self.pid = self.handle._child.pid

    def reply(self) -> Reply:
        """Wait for the next reply, but for what is only told to who waits."""
        while isinstance(found := self.replies.get(timeout=60), Working):
            pass
        return found

    def gone(self) -> bool:
        """Whether the program has ended, seen from outside."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class Children:
    """Starts such programs, and ends them when it is left.

    Args:
        folder: Where their files lie, and the current folder meanwhile.
        monkeypatch: Of the test.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._started: list[Started] = []
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        monkeypatch.chdir(folder)

    def start(self, program: str, *, opening: str = BEGIN) -> Started:
        """Run a program; by default it begins with BEGIN."""
        name = f"program{len(self._started)}"
        (self._folder / f"{name}.py").write_text(opening + program)
        self._started.append(Started(name))
        return self._started[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._started:
            child.handle.kill()
            child.handle._reader.join()


def until(what: Callable[[], bool]) -> None:
    """Wait for something that has to happen."""
    patience = time.monotonic() + 60
    while not what():
        assert time.monotonic() < patience
        time.sleep(0.01)
