"""A CSV file for each series, in the folder that clipwatch keeps for the tracker."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series
from clipwatch_adapters.shared.disk import plain_errors


class CsvTracker:
    """Write seq, step and mean of each result."""

    def __init__(self, target: Target) -> None:
        self._folder = target.state_dir

    def destination(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def published(self, series: Series) -> frozenset[int]:
        """Read the file."""
        with plain_errors("csv", self._folder):
            return frozenset(self._rows(series))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write the file anew beside itself, and put it in its place."""
        with plain_errors("csv", self._folder):
            rows = self._rows(series)
            for seq in missing:
                result = series.results[seq]
                rows[seq] = [str(seq), str(result.step), f"{result.clip.mean:.6f}"]
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = self._file(series).with_suffix(".unfinished")
            with unfinished.open("w", newline="") as file:
                csv.writer(file).writerows([["seq", "step", "mean"], *rows.values()])
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._file(series))

    def where(self, series: Series) -> str:
        """Return the file's path."""
        return str(self._file(series))

    def hint(self, series: Series) -> str:
        """Return the command that shows it."""
        return f"column -ts, {self._file(series)}"

    def _file(self, series: Series) -> Path:
        return self._folder / f"{series.name}.csv"

    def _rows(self, series: Series) -> dict[int, list[str]]:
        try:
            with self._file(series).open(newline="") as file:
                return {int(row[0]): row for row in list(csv.reader(file))[1:]}
        except FileNotFoundError:
            return {}
