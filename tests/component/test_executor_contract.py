"""The contract of executors, held by this machine's with evaluators that need no models."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from clipwatch.domain.events import WeightFile
from clipwatch.executors.base import Executor
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate
from clipwatch.testing.executors import ExecutorContract
from clipwatch.testing.scripted import ScriptedEvaluator
from places import python_path
from world import checkpoint, settings


@pytest.fixture
def job(tmp_path: Path) -> Evaluate:
    """Return an evaluation of four images or more."""
    folder = checkpoint(tmp_path / "output", 10)
    file = folder / "pytorch_lora_weights.safetensors"
    found = file.stat()
    files = (WeightFile(file.name, found.st_size, found.st_mtime_ns, found.st_ino),)
    protocol = settings(tmp_path).protocol
    return Evaluate(str(folder), "lora", "", files, protocol, (), None, "cpu", 2)


class TestScripted(ExecutorContract):
    """An evaluator in memory."""

    @pytest.fixture
    def executor(self, tmp_path: Path) -> Executor:
        """See ExecutorContract."""
        return LocalExecutor(settings(tmp_path), ScriptedEvaluator)


class TestChild(ExecutorContract):
    """A child process, as the real one but for the models."""

    @pytest.fixture
    def executor(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Executor:
        """See ExecutorContract."""
        monkeypatch.setenv("PYTHONPATH", python_path())
        monkeypatch.setenv("GENERATED", str(tmp_path / "generated"))
        return LocalExecutor(settings(tmp_path), partial(EvaluatorProcess, module="fast_worker"))
