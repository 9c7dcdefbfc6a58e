"""A CSV file for each series, in the folder that clipwatch keeps for the tracker."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Result, Series
from clipwatch_adapters.shared.disk import plain_errors


class CsvTracker:
    """Write a row for each step: the result that stands there, and its mean by each scorer."""

    def __init__(self, target: Target) -> None:
        self._folder = target.state_dir

    def destination(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def published(self, series: Series) -> frozenset[int]:
        """Read the file; a result counts when its step shows it or a later one."""
        with plain_errors("csv", self._folder):
            shown = self._shown(series)
        return frozenset(
            it.seq for it in series.results if it.step in shown and shown[it.step].seq >= it.seq
        )

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write the file anew beside itself, and put it in its place."""
        with plain_errors("csv", self._folder):
            shown = self._shown(series)
            for result in (series.results[seq] for seq in missing):
                if result.step not in shown or shown[result.step].seq < result.seq:
                    shown[result.step] = result
            rows = [_row(shown[step]) for step in sorted(shown)]
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = self._file(series).with_suffix(".unfinished")
            with unfinished.open("w", newline="") as file:
                writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
                writer.writeheader()
                writer.writerows(rows)
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

    def _shown(self, series: Series) -> dict[int, Result]:
        """Return step → the result that the file shows there with all that the log has of it."""
        known = {it.evaluation: it for it in series.results}
        try:
            with self._file(series).open(newline="") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return {}
        found = ((row, known[row["evaluation"]]) for row in rows if row["evaluation"] in known)
        return {it.step: it for row, it in found if all(row.get(_of(name)) for name in it.later)}


def _of(scorer: str) -> str:
    """Return the column of a scorer; the one that decides is "", and has no name."""
    return f"mean {scorer}".rstrip()


def _row(result: Result) -> dict[str, str]:
    means = {_of(name): f"{scores.mean:.6f}" for name, scores in result.scores.items()}
    return {"step": str(result.step), "evaluation": result.evaluation, **means}
