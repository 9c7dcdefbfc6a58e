"""For how long nothing has changed: what tells the finished from the half-written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from clipwatch.domain.events import WeightFile
from clipwatch.kit.filesystems import inode_of
from clipwatch.layouts.base import Candidate
from clipwatch.layouts.files import NotWhole

OLD_SECONDS = 60.0
"""Files untouched for this long are taken as settled at first sight."""

PATIENCE_SECONDS = 600.0
"""After as long without any change an unfinished checkpoint is given up: torch's collectives time
out after ten minutes, so a trainer that is silent for longer does not come back to it."""

SPARSE_SETTLINGS = 60.0
"""Settling times for a file with unwritten parts: a writer that reserved its space and stalled, or
a file system that stores no zeros."""


class Settling(NotWhole):
    """Nothing lacks, but it has to stay unchanged for some more time."""


class Stillness:
    """Since when things have been what they are.

    Args:
        clock: Seconds of a clock that nobody sets.
        wall: Seconds of the clock of file times. It may jump, so it is asked only for what lay
            there before we looked for the first time.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.first_look = True
        self._clock = clock
        self._wall = wall
        self._since: dict[tuple[str, str], tuple[int, float]] = {}

    def seconds(self, name: str, aspect: str, signature: int, changed_ns: int) -> float:
        """Return for how long something has had this signature, 0.0 when it is new.

        `changed_ns` is the file time of its last change.
        """
        now = self._clock()
        known = self._since.get((name, aspect))
        if known is None or known[0] != signature:
            age = self._wall() - changed_ns / 1e9 if self.first_look else 0.0
            known = (signature, now - age if age >= OLD_SECONDS else now)
            self._since[name, aspect] = known
        return now - known[1]

    def restart(self, name: str, aspect: str) -> None:
        """Count from now on: it did change, though its signature does not tell."""
        self._since.pop((name, aspect), None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all but these."""
        self._since = {key: since for key, since in self._since.items() if key[0] in names}


def of_files(checkpoint: Path, files: tuple[WeightFile, ...]) -> tuple[int, int]:
    """Return a signature of weight files, and when the last of them changed."""
    return _signature([str(checkpoint / file.path) for file in files])


def of_candidate(candidate: Candidate) -> tuple[int, int]:
    """Return a signature of all that a candidate may consist of, and its last change."""
    if candidate.files:
        return _signature([str(candidate.root / name) for name in candidate.files])
    return _of_folder(candidate.root)


def _of_folder(checkpoint: Path) -> tuple[int, int]:
    """Return a signature of all that lies in a folder and its subfolders, and its last change."""
    paths = [str(checkpoint)]
    for root, folders, files in os.walk(checkpoint, followlinks=True):
        paths += [os.path.join(root, name) for name in (*folders, *files)]  # noqa: PTH118 - thousands
        if root != str(checkpoint):
            folders.clear()  # weights lie no deeper, and a link may lead round in a circle
    return _signature(sorted(paths))


def _signature(paths: list[str]) -> tuple[int, int]:
    """Blocks tell of a file that is filled in, change times of a clock put back."""
    seen: list[object] = []
    newest_ns = 0
    for path in paths:
        try:
            found = os.stat(path)  # noqa: PTH116 - thousands
        except OSError as error:
            seen.append((path, error.errno))
            continue
        seen.append((path, inode_of(found), found.st_size, found.st_blocks))
        seen.append((found.st_mtime_ns, found.st_ctime_ns))
        newest_ns = max(newest_ns, found.st_mtime_ns, found.st_ctime_ns)
    return hash(tuple(seen)), newest_ns
