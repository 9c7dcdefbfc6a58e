"""Copies of the trainer's files, or reflinks: other files that share their blocks until written."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from clipwatch.domain.events import WeightFile
from clipwatch.staging.originals import NotKept, opened, theirs
from clipwatch.staging.visitors import Visitors

CHUNK: Final = 2**18
"""Bytes between two looks around: about a millisecond on a slow network."""

_FICLONE: Final = 0x40049409
_UNABLE: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM}
)


class Unable(Exception):  # noqa: N818 - says what is so
    """The file systems, or the kernel, do not offer this way."""


class Unwanted(Exception):  # noqa: N818 - says what is so
    """Nobody wants the checkpoint kept any more."""


Files = Mapping[str, WeightFile | None]


@contextmanager
def ours(folder: Path) -> Iterator[None]:
    """Tell what the file system says of our own files.

    Raises:
        NotKept: For an OSError ("disk").
    """
    try:
        yield
    except OSError as error:
        problem = f"cannot keep a checkpoint in {folder}: {error.strerror}"
        raise NotKept("disk", problem) from error


def reflink(root: Path, files: Files, folder: Path) -> None:
    """Make a reflink of each file below `folder`, at once and without taking space.

    Raises:
        Unable: Where the two file systems cannot.
        NotKept: As `originals.opened` and `ours`.
    """
    for name, expected in files.items():
        with opened(root / name, expected) as source, _made(folder, name) as target:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno in _UNABLE:
                    raise Unable from error
                raise
            os.fsync(target)


def link(path: Path, to: Path) -> None:
    """Make a symlink of ours.

    Raises:
        Unable: The file system knows none, as exFAT.
        OSError: It cannot be made.
    """
    try:
        path.symlink_to(to)
    except OSError as error:
        if error.errno in _UNABLE:
            raise Unable from error
        raise


def copy(root: Path, files: Files, folder: Path, *, wanted: Callable[[], bool], shy: bool) -> None:
    """Copy files below `folder`, one after the other, so that at most one is open.

    Args:
        root: The checkpoint.
        files: Relative to it, with what they are expected to be.
        folder: Ours.
        wanted: Asked every now and then whether to go on.
        shy: Close the file when somebody comes to the folder, and go on when he is gone.

    Raises:
        Unwanted: `wanted` said no.
        NotKept: As `originals.opened` and `ours`.
    """
    watched = {root, *((root / name).parent for name in files)} if shy else ()
    with closing(Visitors(watched)) as visitors:
        for name, expected in files.items():
            with _made(folder, name) as target:
                done, whole = 0, False
                while not whole:
                    with opened(root / name, expected) as source, theirs(root / name):
                        done, whole = _go_on(source, target, done, wanted, visitors)
                    if not whole:
                        visitors.wait()
                os.fsync(target)  # of large files the digest knows a part, after a power cut, too


def _go_on(
    source: int, target: int, done: int, wanted: Callable[[], bool], visitors: Visitors
) -> tuple[int, bool]:
    """Copy a chunk or more from `done` on; return how far it came and whether that is the end."""
    while True:
        if not wanted():
            raise Unwanted
        moved = _move(source, target, done)
        if not moved:
            return done, True
        os.posix_fadvise(source, done, moved, os.POSIX_FADV_DONTNEED)
        done += moved
        if visitors.seen():
            return done, False


def _move(source: int, target: int, offset: int) -> int:
    """Move a chunk in the kernel if it can; 0 at the end of the file."""
    for way in (_by_range, os.sendfile, _by_hand):
        try:
            if moved := way(target, source, offset, CHUNK):
                return moved
        except OSError as error:
            if error.errno not in _UNABLE or way is _by_hand:
                raise
    return 0


def _by_range(target: int, source: int, offset: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset_src=offset)


def _by_hand(target: int, source: int, offset: int, count: int) -> int:
    return os.write(target, os.pread(source, count, offset))


@contextmanager
def _made(folder: Path, name: str) -> Iterator[int]:
    """Make a file, readable for us alone, with the folders above it."""
    with ours(folder.parent):
        make_folders(folder, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(folder / name, flags, mode=0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def make_folders(folder: Path, name: str) -> None:
    """Make what is above `name` in a folder, for us alone.

    Raises:
        OSError: It cannot be made.
    """
    for parent in reversed(Path(name).parents):
        (folder / parent).mkdir(mode=0o700, exist_ok=True)
