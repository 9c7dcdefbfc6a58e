"""The contract of trackers, held by each adapter that needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.series import make_target
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.tables import CsvTable, JsonlTable
from clipwatch_adapters.tensorboard import TensorBoardTracker


class TestMemory(TrackerContract):
    """The tracker in memory lives as long as its one instance."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        tracker = MemoryTracker(make_target(tmp_path))
        return lambda: tracker


class TestTensorBoard(TrackerContract):
    """TensorBoard below the trainer's run."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        (target.logging_dir / target.project).mkdir(parents=True)
        return lambda: TensorBoardTracker(target)


class TestTensorBoardAlone(TrackerContract):
    """TensorBoard where the trainer has no run."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: TensorBoardTracker(target)


class TestJsonl(TrackerContract):
    """`results.jsonl` in the state directory."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: JsonlTable(target)


class TestCsv(TrackerContract):
    """`results.csv` in the state directory."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: CsvTable(target)
