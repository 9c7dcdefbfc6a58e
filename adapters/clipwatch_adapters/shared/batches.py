"""Batches of rows that wait on the disk for somebody to upload them.

A batch counts when it was read back whole and is on the disk. What a killed session left goes, and
its rows are written again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.kit.filesystems import make_private, sync_folder
from clipwatch.results.series import Result, Series
from clipwatch_adapters.shared.disk import private, read_own, write_private
from clipwatch_adapters.shared.points import Points, lacking
from clipwatch_adapters.shared.told import Row

NOTE = "written.json"


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one run at the tracker, all in `folder`, called IDENTITY-0001 and so on.

    What was uploaded may be removed. Written once more, its rows would come twice at the next
    upload: so a note beside the batches says what they held.

    Attributes:
        tracker: As people call it.
        folder: Holds batches and nothing else of ours but the note.
        identity: Of the run at the tracker, in the name of each batch.
        suffix: Behind its number.
        read: Return the ids of the rows in a batch, None unless it is whole and finished.
        points: Return name, step and value of all numbers in a batch.
    """

    tracker: str
    folder: Path
    identity: str
    suffix: str
    read: Callable[[Path], frozenset[str] | None]
    points: Callable[[Path], Iterable[tuple[str, int, float]]]

    def held(self) -> frozenset[str]:
        """Return the ids of the rows in batches that are there, or were.

        Raises:
            OSError: A folder or file cannot be read.
        """
        return frozenset(row for rows in self._batches().values() for row in rows)

    def begin(self) -> Path:
        """Return the place of the next batch, where nothing is so far.

        What is damaged or was never finished goes: an upload would fail, or bring a part.
        """
        make_private(self.folder)
        batches = self._batches()
        for batch in self._present():
            if self.read(batch) is None:
                del batches[batch.name]
                self._write(batches)
                _remove(batch)
        number = 1 + max(map(_number, batches), default=0)
        return self.folder / f"{self.identity}-{number:04}{self.suffix}"

    def take(self, made: Path, place: Path, rows: Sequence[Row]) -> None:
        """Count what a session has made, which gets its place unless it was made there.

        Raises:
            TrackerUnavailable: It lacks one of these rows, or a number of theirs.
            OSError: The disk does not take it.
        """
        held = self.read(made)
        if held is None or not held.issuperset(row.id for row in rows) or self._lacks(made, rows):
            raise TrackerUnavailable(f"{self.tracker} left nothing whole in {made.parent}")
        _sync(made)
        made.replace(place)
        sync_folder(self.folder)
        self._write(self._batches())  # from here on it may be removed

    def _lacks(self, made: Path, rows: Sequence[Row]) -> bool:
        found: Points = {}
        for name, step, value in self.points(made):
            found.setdefault((name, step), []).append(value)
        return bool(lacking(rows, found))

    def forget(self) -> None:
        """Remove the batches, and first the note of them, or those that are gone would count."""
        (self.folder / NOTE).unlink(missing_ok=True)
        for batch in self._present():
            _remove(batch)

    def _present(self) -> list[Path]:
        try:
            return sorted(it for it in self.folder.iterdir() if fnmatch(it.name, self._pattern))
        except FileNotFoundError:
            return []

    @property
    def _pattern(self) -> str:
        return f"{self.identity}-[0-9]*{self.suffix}"

    def _batches(self) -> dict[str, list[str]]:
        """Return name → ids of the rows of each batch; one that is there speaks for itself."""
        batches = noted(self.folder)
        for batch in self._present():
            batches[batch.name] = sorted(self.read(batch) or ())
        return {name: rows for name, rows in batches.items() if fnmatch(name, self._pattern)}

    def _write(self, batches: dict[str, list[str]]) -> None:
        known = noted(self.folder).items()
        others = {name: rows for name, rows in known if not fnmatch(name, self._pattern)}
        note = msgspec.json.encode(others | batches)
        write_private(self.folder / NOTE, note, lasting=True)


def identity(series: Series, begun: Iterable[str], named: Callable[[Result | None], str]) -> str:
    """Return by which identity the batches of a series' log are known: its first result is in it.

    What has begun goes on: an import may bring results that were scored before the first one here.

    Args:
        series: Whose.
        begun: Names of batches that are there, or were, see `known`.
        named: Returns the identity of a log with this first result, or with none.
    """
    first = sorted(series.results, key=lambda it: (it.finished, it.evaluation))
    possible = [named(it) for it in first] or [named(None)]
    there = " ".join(begun)
    return next((it for it in possible if it in there), possible[0])


def known(folder: Path, inside: str = ".") -> list[str]:
    """Return the names of batches in a folder of a folder, and of those that the note tells of.

    Raises:
        OSError: It cannot be read.
    """
    try:
        listed = os.listdir(folder / inside)
    except FileNotFoundError:
        listed = []
    return [*noted(folder), *listed]


def noted(folder: Path) -> dict[str, list[Any]]:
    """Return what the note says that batches held, by their names.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return msgspec.json.decode(read_own(folder / NOTE), type=dict[str, list[Any]])
    except (FileNotFoundError, ValueError):  # damaged: the batches themselves still tell
        return {}


def _number(name: str) -> int:
    return int(name.rpartition("-")[2].partition(".")[0])


def _remove(batch: Path) -> None:
    if batch.is_dir() and not batch.is_symlink():
        shutil.rmtree(batch)
    else:
        batch.unlink()


def _sync(batch: Path) -> None:
    for path in (*batch.rglob("*"), batch):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file() and not path.is_symlink():
            with open(path, "rb", opener=private) as file:
                os.fsync(file)
