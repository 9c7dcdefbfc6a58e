"""Files of our own, where others may write, too: no link or pipe that they left is followed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LONGEST = 1 << 30
"""Bytes of a file of ours, far more than any has."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would block


def open_own(path: str | Path, flags: int) -> int:
    """Open a file by its name, made for its owner alone if `flags` say so; as `opener` of open().

    Raises:
        OSError: It cannot be opened, or it is no regular file with this one name.
    """
    number = os.open(path, flags | _SAFE, 0o600)
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return number
    os.close(number)
    raise OSError(errno.EPERM, "is a pipe, or has a second name", str(path))


def read_own(path: Path) -> bytes:
    """Return what stands in a file.

    Raises:
        OSError: As `open_own`.
    """
    with open(path, "rb", opener=open_own) as file:
        return file.read(LONGEST)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole, whatever stands there, by one that only its owner can read.

    Raises:
        OSError: It cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed, or somebody's trap
    with open(fresh, "xb", opener=open_own) as file:
        file.write(data)
    fresh.replace(path)
