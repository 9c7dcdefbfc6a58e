"""What tests of SwanLab share: a clean environment, and what its own reader finds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipwatch_adapters.swanlab.files import held


def isolate(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leave no key, mode or file of the machine that runs the test."""
    for name in [name for name in os.environ if name.startswith("SWANLAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


def records(run: Path) -> Iterator[Any]:
    """Yield the records of a run's folder, as SwanLab reads them before it uploads."""
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    (file,) = run.glob("run-*.swanlab")
    reader = DataStoreReader()
    reader.open(file)
    for data in reader:
        record = Record()
        record.ParseFromString(data)
        yield record
    reader.close()


def means(folder: str) -> list[tuple[int, float]]:
    """Return (step, value) of clip/mean in all runs of a series' folder, in their order."""
    batches = sorted(it for it in Path(folder).iterdir() if it.is_dir())
    assert all(held(it) for it in batches)
    return [
        (record.scalar.step, record.scalar.value.number)
        for batch in batches
        for run in batch.glob("run-*")
        for record in records(run)
        if record.HasField("scalar") and record.scalar.key == "clip/mean"
    ]
