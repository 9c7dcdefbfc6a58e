"""Parts of an evaluation: what `clipwatch score --save` keeps, and `clipwatch import` adds up.

A part is a file that one process adds lines to, as SQLite's write-ahead log works on no shared file
system. The images lie beside it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO, Final

from clipwatch import __version__
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.merging import Shard
from clipwatch.executors.messages import Finished
from clipwatch.journal import log_file
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.kit.filesystems import make_private, sync_folder
from clipwatch.kit.ownfiles import open_own
from clipwatch.tasks.partfile import FORMAT, Head, Part, line, named, parsed

BEGINS: Final = b'{"type":"Part",'
"""How a part's file begins."""

_FILES: Final = "*-of-*.jsonl"


def found(place: Path) -> list[Path]:
    """Return the files of parts that a person named: one, or all below a folder without a log.

    Raises:
        ClipwatchError: It cannot be read.
    """
    place = place.absolute()
    try:
        if place.is_dir():
            files = [] if log_file(place).exists() else sorted(place.rglob(_FILES))
            return [it for it in files if it.is_file() and _is_part(it)]  # a pipe would block
        return [place] if place.is_file() and _is_part(place) else []
    except OSError as error:
        raise ClipwatchError(f"{place} cannot be read: {error.strerror}") from error


def _is_part(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(BEGINS)) == BEGINS


class Writing:
    """A part that is open for writing.

    Args:
        path: Its file.
        file: Open at its end.
        part: What stands in it.
    """

    def __init__(self, path: Path, file: IO[bytes], part: Part) -> None:
        self.path, self._file = path, file
        self.scored = list(part.scored)
        self.finished = part.finished

    def keep(self, what: EvaluationStarted | ImagesScored | Finished) -> None:
        """Add a line; on return it is on the disk.

        Raises:
            OSError: There is no space, or the disk fails.
        """
        self._file.write(line(what))
        self._file.flush()
        os.fsync(self._file.fileno())
        if isinstance(what, ImagesScored):
            self.scored += what.images
        elif isinstance(what, Finished):
            self.finished = what


@contextmanager
def writing(
    place: Path,
    shard: Shard,
    run: RunStarted,
    protocol: ProtocolDefined,
    checkpoint: CheckpointCompleted,
) -> Iterator[Writing]:
    """Open a part, made if it is not there; one that was begun goes on.

    Args:
        place: The folder of all parts.
        shard: Which it is.
        run: Of the checkpoint.
        protocol: Under which it is scored.
        checkpoint: What is scored.

    Raises:
        SettingsError: The folder cannot be made or written, or is a state directory.
        ClipwatchError: Another process writes it, or it is damaged.
    """
    if log_file(place).exists():
        raise SettingsError(
            f"{place} is a state directory", fix="name a folder for the parts alone"
        )
    folder = place / named(checkpoint, protocol)
    path = folder / f"{shard.number}-of-{shard.of}.jsonl"
    try:
        make_private(folder)
        number = open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        problem = f"{path} cannot be made or written: {error.strerror}"
        raise SettingsError(problem, fix="choose another folder with --save") from error
    with os.fdopen(number, "r+b") as file:
        _lock(file, path)
        part, sound = parsed(path, file.read())
        file.seek(sound if part else 0)
        file.truncate()  # the line that a kill cut
        if part is None:
            first = Head(FORMAT, __version__, shard.number, shard.of)
            file.writelines([line(first), line(run), line(protocol), line(checkpoint)])
            file.flush()
            os.fsync(file.fileno())
            sync_folder(folder)
            now = datetime.now(UTC)
            part = Part(path, ((now, run), (now, protocol), (now, checkpoint)), None)
        same = (checkpoint.digest, protocol.digest)
        if (part.checkpoint.digest, part.protocol.digest) != same:
            raise ClipwatchError(f"{path} is of other weights", fix="choose another folder")
        yield Writing(path, file, part)


def _lock(file: IO[bytes], path: Path) -> None:
    """The kernel lets go of it however the process ends; on other machines the file server.

    Raises:
        ClipwatchError: Another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (EAGAIN, EACCES):
            problem = f"another process writes {path} just now"
            raise ClipwatchError(problem, fix="leave it to that one, or stop it first") from error
        # a file system without locks: whoever starts the jobs starts each once
