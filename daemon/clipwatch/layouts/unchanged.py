"""Which checkpoints are as they were when they were last looked into, told by a few stats.

A look at a thousand finished checkpoints every few seconds must cost next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from clipwatch.domain.events import WeightFile
from clipwatch.kit.filesystems import inode_of
from clipwatch.layouts.base import Candidate

RACY_SECONDS = 3.0
"""A file changed again within a tick of its clock looks the same; FAT's tick is 2 s."""

LONG_AGO_SECONDS = 86_400.0
"""No file server's clock is behind by more."""

Identity = tuple[tuple[int, int, int, int], ...]


class Unchanged:
    """Remembers checkpoints, and the files of them that matter.

    Args:
        clock: Seconds of a clock that nobody sets.
        wall: Seconds of the time of day, which is the clock of file times, more or less.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._seen: dict[str, tuple[Identity, float]] = {}  # and since when by our own clock
        self._known: dict[str, tuple[tuple[str, ...], Identity]] = {}

    def remember(self, candidate: Candidate, files: tuple[WeightFile, ...]) -> bool:
        """Take note of its weights, and of its folder and those that they lie in.

        A flat folder is not one of these: others come into it all the time. What may have changed
        only just now is not remembered, which is returned: the next look goes into it again. Its
        age is what we saw of it, as a file server's clock may be behind.
        """
        root = str(candidate.root)
        weights = [f"{root}/{file.path}" for file in files]
        folders = dict.fromkeys((root, *map(os.path.dirname, weights)))
        if candidate.files:
            del folders[root]
        paths = (*folders, *weights)
        identity = _identity(paths)
        self._known.pop(candidate.name, None)
        if not identity:
            return False
        seen, since = self._seen.get(candidate.name, ((), 0.0))
        if seen != identity:
            since = self._clock()
            self._seen[candidate.name] = (identity, since)
        youngest = max(max(it[2:]) for it in identity)
        long_ago = youngest < (self._wall() - LONG_AGO_SECONDS) * 1e9
        old = long_ago or self._clock() - since >= RACY_SECONDS
        if old:
            self._known[candidate.name] = (paths, identity)
        return old

    def same(self, name: str) -> bool:
        """Whether nothing was added, removed, written, or made unreadable since."""
        paths, identity = self._known.get(name, ((), ()))
        return bool(paths) and _identity(paths) == identity

    def keep(self, names: set[str]) -> None:
        """Forget all others."""
        for kept in (self._known, self._seen):
            for name in kept.keys() - names:
                del kept[name]


def _identity(paths: tuple[str, ...]) -> Identity:
    """Return inode, size, and times of each in nanoseconds; nothing when one cannot be had."""
    try:
        found = [os.stat(path) for path in paths]  # noqa: PTH116 - a Path costs more than the call
    except OSError:
        return ()
    return tuple((inode_of(it), it.st_size, it.st_mtime_ns, it.st_ctime_ns) for it in found)
