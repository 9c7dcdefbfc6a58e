"""What trackers share on disk: what its errors mean for the next attempt, and private files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.ownfiles import open_own as private
from clipwatch.kit.ownfiles import read_own, write_private

__all__ = ["plain_errors", "private", "read_own", "write_private"]

_MENDABLE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


@contextmanager
def plain_errors(tracker: str, folder: Path) -> Iterator[None]:
    """Turn what the file system says into what can be done about it.

    Raises:
        TrackerRefused: Somebody must mend it: permissions, or something else in a folder's place.
        TrackerUnavailable: It may pass: a full disk, a failing or stale mount.
    """
    try:
        yield
    except OSError as error:
        what = f"{tracker}: {error.filename or folder}: {error.strerror or error}"
        if error.errno in _MENDABLE:
            raise TrackerRefused(what, fix="let clipwatch write there") from error
        raise TrackerUnavailable(f"{what}; it will be tried again") from error
