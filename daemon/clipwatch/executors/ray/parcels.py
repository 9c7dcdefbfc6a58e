"""A checkpoint on its way to a node that does not see its folder: in pieces, and whole or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Final

from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import FailureKind
from clipwatch.executors.messages import Evaluate
from clipwatch.kit.filesystems import inode_of
from clipwatch.layouts.files import is_same
from clipwatch.layouts.pipeline_parts import is_config

PIECE: Final = 32 << 20
"""Bytes that travel at once."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class NotSent(Exception):  # noqa: N818 - says what is so
    """A checkpoint cannot be read to the end; `kind` is that of Failed."""

    def __init__(self, kind: FailureKind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Packed:
    """A file: where it stands in the checkpoint, its pieces in order, its SHA-256."""

    path: str
    pieces: tuple[Any, ...]
    digest: str


def pack(request: Evaluate, put: Callable[[bytes], Any]) -> tuple[Packed, ...]:
    """Read what the evaluation reads of a checkpoint; at most one file is open.

    Args:
        request: Names the checkpoint and its weights.
        put: Takes a piece, and returns what stands for it.

    Raises:
        NotSent: A file is gone, cannot be read, or is not the one that was found.
    """
    root = Path(request.path)
    files: dict[str, WeightFile | None] = {file.path: file for file in request.files}
    try:
        if request.kind == "pipeline":
            files = dict.fromkeys(_configs(root)) | files
        return tuple(_packed(root, name, known, put) for name, known in files.items())
    except FileNotFoundError as error:
        raise NotSent("vanished", f"{error.filename} is gone") from error
    except OSError as error:
        raise NotSent("unreadable", f"{error.filename or root}: {error.strerror}") from error


def _packed(root: Path, name: str, known: WeightFile | None, put: Callable[[bytes], Any]) -> Packed:
    digest, pieces = hashlib.sha256(), []
    descriptor = os.open(root / name, _READ)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        _check(root / name, descriptor, known)
        while piece := file.read(PIECE):
            digest.update(piece)
            pieces.append(put(piece))
        _check(root / name, descriptor, known)
    return Packed(name, tuple(pieces), digest.hexdigest())


def _check(path: Path, descriptor: int, known: WeightFile | None) -> None:
    if known is not None and not is_same(known, os.fstat(descriptor)):
        raise NotSent("changed", f"{path} was written again")


def _configs(root: Path) -> Iterator[str]:
    """Yield a pipeline's small files: beside its index, and in the folders of its parts."""
    folders = (it.path for it in os.scandir(root) if it.is_dir() and not it.name.startswith("."))
    for entry in chain.from_iterable(map(os.scandir, (str(root), *folders))):
        if is_config(entry):
            yield Path(entry).relative_to(root).as_posix()


# --- on the node ---------------------------------------------------------------------------------


def lies_here(root: Path, files: tuple[WeightFile, ...]) -> bool:
    """Whether a node sees the same files under the same path, as far as sizes and times tell.

    An inode is not compared, for a file system that is shared may number them on each machine.
    """
    try:
        found = [(root / file.path).stat() for file in files]
    except OSError:
        return False
    known = [(file.size, file.mtime_ns) for file in files]
    return known == [(it.st_size, it.st_mtime_ns) for it in found]


def as_here(root: Path, files: tuple[WeightFile, ...]) -> tuple[WeightFile, ...]:
    """Return the files as they are told apart on this machine.

    Raises:
        OSError: One is not there.
    """
    stats = ((file.path, (root / file.path).stat()) for file in files)
    return tuple(WeightFile(path, it.st_size, it.st_mtime_ns, inode_of(it)) for path, it in stats)


def unpack(root: Path, name: str, piece: bytes) -> None:
    """Write a piece of a file behind what is there of it.

    Raises:
        OSError: It cannot be written.
        ValueError: It would stand outside of `root`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} leads out of the checkpoint")
    (root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(root / path, _WRITE, 0o600), "ab") as file:
        file.write(piece)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as it is read back.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
