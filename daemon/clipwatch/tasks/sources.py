"""What `clipwatch import` reads and never writes to: a log, a table of `clipwatch export`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipwatch.domain.fold import evolve
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import State
from clipwatch.journal import Recorded, log_file
from clipwatch.journal.snapshot import snapshot
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.tasks import exported

OTHER: Final = "name a state directory, its clipwatch.db, or a file of clipwatch export"

_SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Source:
    """What is known elsewhere.

    Attributes:
        path: The log's file, or the table's.
        state: Its runs.
        stream: Returns what a stream holds.
        state_dir: Of the log, where its images may lie; None for a table.
        left_out: What of it cannot be taken over, a line each.
    """

    path: Path
    state: State
    stream: Callable[[str], Iterable[Recorded]]
    state_dir: Path | None = None
    left_out: tuple[str, ...] = ()


@contextmanager
def opened(
    source: Path, own: Path, protocols: Mapping[str, EvaluationProtocol]
) -> Iterator[Source]:
    """Open what a person named, and read all of it but the images of finished evaluations.

    Args:
        source: A state directory, a log's file or a table.
        own: The log that is added to.
        protocols: By digest, those that it knows: a table names them alone.

    Raises:
        SettingsError: It is none of these, or the very log itself.
        JournalError: The log there is damaged, cannot be read or was written by a newer clipwatch.
        ClipwatchError: A row of the table is none.
    """
    path, begins = _looked_at(source)
    if own.exists() and path.samefile(own):
        raise SettingsError(f"{source} is this very log", fix="name another one's")
    if not begins.startswith(_SQLITE):
        table = exported.read(path, begins, protocols)
        if table is None:
            raise SettingsError(f"{source} is no log and no table of clipwatch", fix=OTHER)
        streams = table.streams
        told = (it for events in streams.values() for it in events)
        state = evolve({}, ((it.run, it.event, it.time) for it in told))
        yield Source(path, state, lambda name: streams.get(name, ()), None, table.left_out)
        return
    with snapshot(path) as reader:
        all_ = reader.read(brief=True)
        state = evolve({}, ((it.run, it.event, it.time) for it in all_))
        yield Source(path, state, lambda name: reader.read(stream=name), path.parent)


def _looked_at(source: Path) -> tuple[Path, bytes]:
    """Return the file that is meant, and how it begins.

    Raises:
        SettingsError: There is none.
    """
    path = log_file(source) if source.is_dir() else source
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError(f"{source} is no file", fix=OTHER)
        with path.open("rb") as file:
            return Path(os.path.realpath(path)), file.read(exported.HEAD)
    except FileNotFoundError as error:
        what = f"there is no log in {source}" if source.is_dir() else f"there is no {source}"
        raise SettingsError(what, fix=OTHER) from error
    except OSError as error:
        raise ClipwatchError(f"{path} cannot be read: {error.strerror}") from error
