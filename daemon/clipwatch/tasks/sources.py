"""What `clipwatch import` reads and never writes to: a log, a table, parts of evaluations."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from clipwatch.domain.fold import Happened, evolve
from clipwatch.domain.names import evaluation_stream, run_id
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Run, State
from clipwatch.journal import Recorded, log_file
from clipwatch.journal.snapshot import snapshot
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.tasks import exported, partfile, parts
from clipwatch.tasks.partfile import Part

OTHER: Final = (
    "name a state directory, its clipwatch.db, a file of clipwatch export, or what clipwatch score "
    "--save keeps"
)

_SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Source:
    """What is known elsewhere.

    Attributes:
        path: The log's file, or the table's; of parts the first one.
        state: Its runs.
        stream: Returns what a stream holds.
        state_dir: Of the log, where its images may lie; None for a table.
        left_out: What of it cannot be taken over, a line each.
        parts: By the stream of an evaluation, those that hold its images; its state counts as that
            of a scored one, whole or not.
    """

    path: Path
    state: State
    stream: Callable[[str], Iterable[Recorded]]
    state_dir: Path | None = None
    left_out: tuple[str, ...] = ()
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)


def grouped(named: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return what is opened together: one by one, and then all parts, as they are added up.

    Raises:
        ClipwatchError: A folder cannot be read.
    """
    known = {it: parts.found(it) for it in named}
    others = [(it,) for it in named if not known[it]]
    files = dict.fromkeys(path for its in known.values() for path in its)
    return [*others, *([tuple(files)] if files else [])]


@contextmanager
def opened(
    sources: Sequence[Path], own: Path, protocols: Mapping[str, EvaluationProtocol]
) -> Iterator[Source]:
    """Open what a person named, and read all of it but the images of finished evaluations.

    Args:
        sources: A state directory, a log's file or a table; or files of parts (see `grouped`).
        own: The log that is added to.
        protocols: By digest, those that it knows: a table names them alone.

    Raises:
        SettingsError: It is none of these, or the very log itself.
        JournalError: The log there is damaged, cannot be read or was written by a newer clipwatch.
        ClipwatchError: A row of the table is none, or a part is damaged.
    """
    source, *_ = sources
    if parts.found(source):
        yield _of_parts([it for it in map(partfile.read, sources) if it is not None])
        return
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


def _of_parts(all_: Sequence[Part]) -> Source:
    """Return what parts tell; those of one folder of checkpoints are of one run."""
    named: dict[str, list[Part]] = {}
    happened: list[Happened] = []
    begun: set[str] = set()
    for part in sorted((it for it in all_ if it.scored), key=lambda it: (it.told[0][0], it.path)):
        run = run_id(part.run.output_dir)
        told = ((run, event, time) for time, event in part.told)
        happened += [it for it in told if not (run in begun and it[1] == part.run)]
        begun.add(run)
        named.setdefault(evaluation_stream(run, part.evaluation), []).append(part)
    state = {
        name: replace(run, scored=_by_protocol(run)) for name, run in evolve({}, happened).items()
    }
    return Source(all_[0].path if all_ else Path(), state, lambda _: (), parts=named)


def _by_protocol(run: Run) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for it in run.evaluations.values():
        found[it.protocol] = (*found.get(it.protocol, ()), it.id)
    return found


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
