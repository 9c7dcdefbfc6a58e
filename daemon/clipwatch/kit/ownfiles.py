"""Files of our own, where others may write, too: no link or pipe that they left is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from clipwatch.kit.filesystems import sync_folder

LONGEST = 1 << 30
"""Bytes of a file of ours, far more than any has."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would block


def open_own(path: str | Path, flags: int, mode: int = 0o600) -> int:
    """Open a file by its name, made with `mode` if `flags` say so; as `opener` of open().

    Raises:
        OSError: It cannot be opened, it is no regular file, or it is one with a second name that
            would be written. Read it may be: a copy of a folder that is made of links has such.
    """
    number = os.open(path, flags | _SAFE, mode)
    found = os.fstat(number)
    reads = flags & os.O_ACCMODE == os.O_RDONLY
    if stat.S_ISREG(found.st_mode) and (reads or found.st_nlink <= 1):
        return number
    os.close(number)
    raise OSError(errno.EPERM, "is a pipe, or has a second name", str(path))


def read_own(path: Path) -> bytes:
    """Return what stands in a file.

    Raises:
        OSError: As `open_own`.
    """
    with open(path, "rb", opener=open_own) as file:
        return file.read(min(LONGEST, os.fstat(file.fileno()).st_size))  # it takes as much memory


def write_private(path: Path, data: bytes | Iterable[bytes], *, lasting: bool) -> None:
    """Replace a file as a whole, whatever stands there, by one that only its owner can read.

    What is given in parts may be read from what it replaces.

    On return a `lasting` one is on the disk; of another a power cut may leave nothing, or a part.

    Raises:
        OSError: It cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed, or somebody's trap
    with open(fresh, "xb", opener=open_own) as file:
        file.writelines([data] if isinstance(data, bytes) else data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if lasting:
        sync_folder(path.parent)
