"""Every call to the operating system may fail: what leaves an adapter is one of its two errors.

The errors are injected into Python's own functions, one call after the other. Disks that really
fail are in test_tensorboard_faults.py.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.tables import CsvTable, JsonlTable
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb.outcome import Outcome
from clipwatch_adapters.wandb.session import Job
from tensorboard_kit import event_file
from tracker_kit import bring
from wandb_world import isolate

READING = ("open", "stat", "lstat", "fstat", "listdir", "scandir")
WRITING = ("mkdir", "rename", "replace", "unlink", "rmdir", "write", "fsync", "truncate")
PASSING = (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EDQUOT)
MENDABLE = (errno.EACCES, errno.EROFS)


class Faulty:
    """Count the calls to the operating system; the one numbered `at` fails with `code`."""

    def __init__(self, at: int, code: int) -> None:
        self.at, self.code, self.calls = at, code, 0

    def count(self) -> None:
        """Let one call pass, or fail."""
        self.calls += 1
        if self.calls - 1 == self.at:
            raise OSError(self.code, os.strerror(self.code))

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its calls counted."""

        def call(*args: Any, **options: Any) -> Any:
            self.count()
            return real(*args, **options)

        return call

    def open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        """Open a file of which each read is counted as well."""
        self.count()
        if mode != "rb":
            return REAL_OPEN(file, mode, *args, **options)
        raw = FaultyFile(file, "rb")
        raw.count = self.count
        return io.BufferedReader(raw)


class FaultyFile(io.FileIO):
    """A file of which each read is counted."""

    count: Callable[[], None]

    def readinto(self, buffer: Any) -> int | None:
        """Read, or fail."""
        self.count()
        return super().readinto(buffer)


REAL_OPEN = io.open


@contextmanager
def failing(at: int, code: int = errno.EIO) -> Iterator[Faulty]:
    """Let the call numbered `at` (none for -1) fail until the block ends."""
    faulty = Faulty(at, code)
    with pytest.MonkeyPatch.context() as patch:
        for name in READING + WRITING:
            patch.setattr(os, name, faulty.wrap(getattr(os, name)))
        patch.setattr(io, "open", faulty.open)
        patch.setattr(builtins, "open", faulty.open)
        yield faulty


def attempt(tracker: Tracker, series: Series) -> TrackerUnavailable | TrackerRefused | None:
    """Do all that the daemon does with a tracker; return which error it gave, if any."""
    try:
        bring(tracker, series)
        tracker.where(series)
        tracker.hint(series)
    except (TrackerUnavailable, TrackerRefused) as error:
        return error
    return None


@pytest.mark.parametrize("code", [*PASSING, *MENDABLE])
@pytest.mark.parametrize("steps", [[100, 200], [200, 100]], ids=["appended", "rewritten"])
@pytest.mark.thorough(but=3)
def test_tensorboard_tells_every_error(tmp_path: Path, code: int, steps: list[int]) -> None:
    """Whichever call fails, it is told as what it is, and the next attempt shows all."""

    def begin(folder: Path) -> tuple[Target, Series]:
        target = make_target(folder)
        (target.logging_dir / target.project).mkdir(parents=True)
        series = make_series(folder, steps, images=False)
        tracker = TensorBoardTracker(target)
        tracker.publish(series, [0])
        return replace(target, where=tracker.where(series)), series

    with failing(-1) as clean:
        target, series = begin(tmp_path / "clean")
        clean.calls = 0
        assert attempt(TensorBoardTracker(target), series) is None
    for at in range(clean.calls):
        target, series = begin(tmp_path / str(at))
        with failing(at, code):
            error = attempt(TensorBoardTracker(target), series)
        if error is not None:
            assert os.strerror(code) in str(error)
            assert isinstance(error, TrackerRefused) == (code in MENDABLE)
        assert bring(TensorBoardTracker(target), series) == {0, 1}
        assert event_file(Path(target.where))
    assert clean.calls > 20


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("kind", [JsonlTable, CsvTable])
def test_tables_tell_every_error(tmp_path: Path, code: int, kind: type[JsonlTable]) -> None:
    """As TensorBoard does; whichever call fails, the file is the earlier one or the whole new."""
    series = make_series(tmp_path, [200, 100], images=False)

    def begin(folder: Path) -> Target:
        target = make_target(folder)
        kind(target).publish(series, [0])
        return target

    with failing(-1) as clean:
        target = begin(tmp_path / "clean")
        clean.calls = 0
        assert attempt(kind(target), series) is None
    for at in range(clean.calls):
        target = begin(tmp_path / str(at))
        with failing(at, code):
            error = attempt(kind(target), series)
        if error is not None:
            assert os.strerror(code) in str(error)
            assert isinstance(error, TrackerRefused) == (code in MENDABLE)
        assert kind(target).published(series) in ({0}, {0, 1})
        assert bring(kind(target), series) == {0, 1}
    assert clean.calls > 8


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_wandb_tells_every_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Whichever call around a session fails, one of the two errors comes, and no run is removed.

    The session itself is left out: it is a process of its own.
    """
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = WandbTracker(target)
    tracker.publish(series, [0, 1])
    runs = Path(tracker.where(series))
    before = sorted(runs.rglob("*"))
    monkeypatch.setenv("WANDB_MODE", mode)

    def session(_self: WandbTracker, _series: Series, job: Job, _log: object) -> Outcome:
        shown = tuple(str(row.values["clipwatch/evaluation"]) for row in job.rows) or tuple(
            result.evaluation for result in series.results
        )
        return Outcome("ok", shown=shown, url=f"url/{job.id}")

    monkeypatch.setattr(WandbTracker, "_session", session)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with failing(-1) as clean:
        WandbTracker(target).publish(series, [0, 1])
        assert attempt(WandbTracker(target), series) is None
    told = 0
    for code in (errno.EIO, errno.EACCES):
        for at in range(clean.calls):
            with failing(at, code):
                try:
                    WandbTracker(target).publish(series, [0, 1])
                except (TrackerUnavailable, TrackerRefused):
                    told += 1
                told += attempt(WandbTracker(target), series) is not None
            assert sorted(runs.rglob("*")) == before
    assert told > clean.calls // 2


@pytest.mark.parametrize("code", [*PASSING, errno.EACCES])
@pytest.mark.thorough(but=1)
def test_a_note_that_cannot_be_read_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Which run of the trainer's ours stand beside decides their ids; it is told, and stays."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    target, series = make_target(tmp_path), make_series(tmp_path, [100], images=False)
    WandbTracker(target).publish(series, [0])
    note = target.state_dir / "trainer-run.json"
    note.write_text(json.dumps([target.project, "first"]))
    where = WandbTracker(target).destination()
    real = os.open

    def unreadable(path: object, *args: Any, **options: Any) -> int:
        if str(path) == str(note):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", unreadable)
        with pytest.raises((TrackerRefused, TrackerUnavailable), match=os.strerror(code)):
            WandbTracker(target).destination()
        with pytest.raises((TrackerRefused, TrackerUnavailable), match=os.strerror(code)):
            WandbTracker(target).publish(series, [0])
    assert json.loads(note.read_text()) == [target.project, "first"]
    assert WandbTracker(target).destination() == where
