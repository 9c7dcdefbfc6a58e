"""Offline runs of one series: what they hold, also those that somebody has taken away since."""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import msgspec

from clipwatch.kit.filesystems import sync_folder
from clipwatch_adapters.shared.batches import NOTE, noted
from clipwatch_adapters.shared.disk import private, write_private
from clipwatch_adapters.wandb.files import finished_rows, matching
from clipwatch_adapters.wandb.session import EVALUATION

if TYPE_CHECKING:
    from pathlib import Path


class OfflineRuns:
    """The runs in W&B's `folder` that carry an identity, each in a folder of its own.

    A run that was synced may be removed or moved (`wandb clean`). Written once more, its rows would
    come twice at the next sync: so a note beside the runs says what they held.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._pattern = f"offline-run-*-{identity}"

    def held(self) -> frozenset[str | int]:
        """Return the evaluations in finished runs, present or noted.

        Notes of earlier versions tell of runs that were taken away places (`_step`) instead.

        Raises:
            OSError: A folder or file cannot be read.
        """
        return frozenset(row for rows in self._runs().values() for row in rows)

    def tidy(self) -> None:
        """Remove the runs that were cut short: a sync would upload what they have."""
        torn = [run for run in self._present() if finished_rows(run) is None]
        if torn:
            self.note()  # or a damaged run would count as taken away
        for run in torn:
            shutil.rmtree(run)

    def note(self) -> None:
        """Write down what the runs hold; they are on the disk before it, as W&B syncs nothing.

        One that a power cut took would else count as taken away.
        """
        known = noted(self._folder)
        for run in self._present():
            if run.name not in known:
                _sync(run)
        write_private(self._folder / NOTE, msgspec.json.encode(self._runs()), lasting=True)

    def forget(self) -> None:
        """Remove the runs, and first the note of them, or those that are gone would count."""
        (self._folder / NOTE).unlink(missing_ok=True)
        for run in self._present():
            shutil.rmtree(run)

    def _present(self) -> list[Path]:
        return matching(self._folder / "wandb", self._pattern)

    def _runs(self) -> dict[str, list[str | int]]:
        runs: dict[str, list[str | int]] = noted(self._folder)
        for run in self._present():
            runs[run.name] = [row[EVALUATION] for row in finished_rows(run) or ()]
        return {name: rows for name, rows in runs.items() if fnmatch(name, self._pattern)}


def _sync(run: Path) -> None:
    for path in (*run.rglob("*"), run, run.parent, run.parent.parent):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file() and not path.is_symlink():
            with open(path, "rb", opener=private) as file:
                os.fsync(file)
