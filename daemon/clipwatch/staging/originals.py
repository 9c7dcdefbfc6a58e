"""The trainer's files: which of them are needed, and whether they are still those that were found.

They are never written, and on file systems outside `filesystems.LOCAL` open for moments only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.state import Checkpoint
from clipwatch.layouts.files import is_same, refusal
from clipwatch.layouts.pipeline_parts import INDEX, is_config

READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""How to open them; a FIFO in the place of a file must not stop us."""

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM})


class NotKept(Exception):  # noqa: N818 - says what is so
    """A checkpoint cannot be kept; `kind` and the text as in Staged."""

    def __init__(self, kind: FailureKind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


@contextmanager
def theirs(path: Path) -> Iterator[None]:
    """Tell what the file system says of a trainer's file.

    Raises:
        NotKept: For an OSError: "vanished", or "unreadable".
        OSError: A disk is full, which cannot be that of a file that is read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        if error.errno in _GONE:
            raise NotKept("vanished", f"{path} is gone") from error
        if error.errno in _REFUSED:
            raise NotKept("unreadable", str(refusal(path))) from error
        raise NotKept("unreadable", f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def opened(path: Path, expected: WeightFile | None) -> Iterator[int]:
    """Open a file for reading; what was read meanwhile was the `expected` one from end to end.

    Raises:
        NotKept: It is gone, another one, or changed before the end.
    """
    with theirs(path):
        descriptor = os.open(path, READ)
    try:
        check(path, descriptor, expected)
        yield descriptor
        check(path, descriptor, expected)
    finally:
        os.close(descriptor)


def check(path: Path, descriptor: int, expected: WeightFile | None) -> None:
    """Make sure that an open file is the one that was found.

    Raises:
        NotKept: It is another one or was written again ("changed").
    """
    with theirs(path):
        found = os.fstat(descriptor)
    if expected is not None and not is_same(expected, found):
        raise NotKept("changed", f"{path} was written again before it was kept")


def needed(checkpoint: Checkpoint) -> dict[str, WeightFile | None]:
    """Return what evaluation reads, relative to the checkpoint; None for what is no weight.

    LoRA and full weights stand for themselves. A pipeline also needs its configs and tokenizers:
    small files beside the index or in a folder that it names, no other kind of weights, no code.

    Raises:
        NotKept: The pipeline cannot be listed any more.
    """
    found: dict[str, WeightFile | None] = {file.path: file for file in checkpoint.files}
    if checkpoint.kind != "pipeline":
        return found
    root = Path(checkpoint.path)
    for folder in (root, *_parts(root)):
        with theirs(folder), os.scandir(folder) as entries:
            for entry in entries:
                if is_config(entry):
                    found.setdefault(Path(entry).relative_to(root).as_posix(), None)
    return found


def _parts(root: Path) -> list[Path]:
    """The folders of a pipeline's parts."""
    with theirs(root / INDEX):
        try:
            index = msgspec.json.decode((root / INDEX).read_bytes(), type=dict[str, object])
        except msgspec.MsgspecError as error:
            raise NotKept("changed", f"{root / INDEX} was written again") from error
    names = [name for name, part in index.items() if isinstance(part, list)]
    return [root / name for name in names if name == Path(name).name and (root / name).is_dir()]


def whole_size(checkpoint: Checkpoint) -> int:
    """Return the bytes of all files in a checkpoint's folder; of one in a flat folder its own.

    What vanishes meanwhile counts as nothing.
    """
    root = Path(checkpoint.path)
    if root.name != checkpoint.name:
        return sum(file.size for file in checkpoint.files)
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_size
            except OSError:
                continue
    return total
