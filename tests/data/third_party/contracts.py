"""The package's own tests: what clipwatch asks of each part."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.layouts.base import Layout
from clipwatch.results.series import Result, Series
from clipwatch.testing.interleavings import TrackerInterleavings
from clipwatch.testing.layouts import LayoutContract, Save
from clipwatch.testing.scorers import ScorerContract
from clipwatch.testing.series import make_target
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch.testing.witness import Point
from flatrun import layout as flat
from flatrun.tracker import CsvTracker


class TestCsv(TrackerContract):
    """The tracker."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: CsvTracker(target)


class TestCsvInTheEnd(TrackerInterleavings):
    """The tracker, whatever happens to it."""

    adapter = "flatrun.tracker:CsvTracker"

    @pytest.fixture(params=range(3))
    def seed(self, request: pytest.FixtureRequest) -> int:
        """See TrackerInterleavings."""
        return int(request.param)

    def numbers(self, series: Series, result: Result) -> Mapping[str, float]:  # noqa: ARG002 - not in its names
        """See TrackerInterleavings."""
        return {f"mean {name}".rstrip(): round(it.mean, 6) for name, it in result.scores.items()}

    def read(self, series: Series, where: str, project: str) -> Iterator[Point]:  # noqa: ARG002 - one file each
        """See TrackerInterleavings."""
        if Path(where).exists():
            with Path(where).open(newline="") as file:
                for row in csv.DictReader(file):
                    for name, value in row.items():
                        if name.startswith("mean") and value:
                            yield name, int(row["step"]), float(value)


class TestFlat(LayoutContract):
    """The layout."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return flat

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""

        def write(output: Path, epoch: int) -> None:
            tensors = {
                f"unet.to_q.lora_{part}.weight": np.ones((4, 4), np.float32) for part in "AB"
            }
            save_file(tensors, output / f"lora-epoch-{epoch}.safetensors")

        return write


class TestBrightness(ScorerContract):
    """The scorer."""

    @pytest.fixture
    def spec(self) -> ScorerSpec:
        """See ScorerContract."""
        return ScorerSpec("light", "", kind="brightness", options=(("most", "5"),))
