"""A finished checkpoint is looked into again as soon as anything in it changed, and only then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Sighting, Whole
from clipwatch.layouts import Scanner, contents
from clipwatch.layouts.unchanged import LONG_AGO_SECONDS, RACY_SECONDS
from layout_kit import Clock
from layout_kit import scanner as scanner_by
from world import checkpoint

WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders that were looked into, one each time."""
    found: list[Path] = []
    find = contents.find

    def noted(path: Path, weights: TrainedWeights) -> object:
        found.append(path)
        return find(path, weights)

    monkeypatch.setattr(contents, "find", noted)
    return found


def scanner(folder: Path) -> Scanner:
    """Scan by a clock of file times that is ahead, as if the files had lain there for a while."""
    wall = Clock(LONG_AGO_SECONDS + 60).wall
    return Scanner(folder, weights="live", settle_seconds=0.0, wall=wall)


def test_what_is_as_it_was_is_not_looked_into_again(tmp_path: Path, looked: list[Path]) -> None:
    """Three looks at a finished checkpoint see the same, and go into it once."""
    path = checkpoint(tmp_path, 1)
    scanning = scanner(tmp_path)
    first = scanning.scan()
    assert isinstance(first[0].verdict, Whole)
    assert [scanning.scan() for _ in range(2)] == [first, first]
    assert looked == [path]


def rewritten(path: Path) -> None:
    save_file({"unet.lora_A.weight": np.full(4, 0.75, np.float32)}, path / WEIGHTS)


def written_in_place(path: Path) -> None:
    data = (path / WEIGHTS).read_bytes()
    with (path / WEIGHTS).open("r+b") as file:
        file.write(data[:-1] + bytes([data[-1] ^ 1]))


def unguarded(path: Path) -> None:
    (path / ".guard").unlink()


def cut(path: Path) -> None:
    os.truncate(path / WEIGHTS, 10)


def gone(path: Path) -> None:
    (path / WEIGHTS).unlink()


def closed(path: Path) -> None:
    (path / WEIGHTS).chmod(0)


def added(path: Path) -> None:
    (path / "unet").mkdir()


@pytest.mark.parametrize(
    "change", [rewritten, written_in_place, unguarded, cut, gone, closed, added]
)
def test_any_change_is_seen(
    tmp_path: Path, looked: list[Path], change: Callable[[Path], None]
) -> None:
    """By a write, in place or not, a mark taken away, a file cut, removed, closed or added."""
    path = checkpoint(tmp_path, 1)
    scanning = scanner(tmp_path)
    scanning.scan()
    change(path)
    assert scanning.scan() == fresh(tmp_path)
    assert looked.count(path) >= 2


def fresh(folder: Path) -> list[Sighting]:
    """Return what one who has never looked sees."""
    return scanner(folder).scan()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_what_changed_just_now_is_looked_into_again(
    tmp_path: Path, looked: list[Path], ahead: float
) -> None:
    """Another change within the same tick of the clock would look the same.

    How long ago that was is told by our own clock: a file server's may be behind, or ahead.
    """
    path = checkpoint(tmp_path, 1)
    clock = Clock()
    clock.jump = ahead
    scanning = scanner_by(tmp_path, clock)
    for passed, looks in ((0.0, 1), (RACY_SECONDS / 2, 2), (RACY_SECONDS, 3), (1.0, 3), (60.0, 3)):
        clock.ahead += passed
        scanning.scan()
        assert looked == [path] * looks
