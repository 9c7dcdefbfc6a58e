"""Which run of the log an output directory is, also where it was renamed, moved, mounted or linked.

A run is known by its path, and by its weights: nobody else has the same under the same names.
Nothing is written for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from clipwatch.domain.fold import evolve
from clipwatch.domain.names import run_id
from clipwatch.domain.state import Checkpoint, Run, State
from clipwatch.journal import Journal
from clipwatch.journal.logfile import present
from clipwatch.kit.addresses import address
from clipwatch.kit.errors import ClipwatchError
from clipwatch.layouts.claims import FILES
from clipwatch.layouts.files import NotWhole, content_digest

Relation = Literal["named", "same", "moved", "copy"]
"""How a run of the log is related to an output directory.

"named": it is watched under this very path. "same": its path leads here, too. "moved": its weights
lie here, and nothing where its path leads. "copy": its weights lie here, and something there.
"""

_TRIED: Final = 3
"""Checkpoints of a run that are compared, the newest that may be the same."""
_BEGUN: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recognised:
    """The run's name; and that of one of which the directory seems to be a copy, else ""."""

    name: str
    copy_of: str = ""


def recognise(log: Path, output_dir: Path | str, layout: str = "") -> Recognised:
    """Say which run a log has, or is to have, for an output directory.

    Args:
        log: The log's file, which may not be there yet.
        output_dir: Which may not be there, either; a text is an address.
        layout: Of the settings: what lies side by side, each a file of its own, and a training are
            two runs, as one curve cannot show both.

    Raises:
        JournalError: The log cannot be read.
    """
    named = _named(log, output_dir)
    found = recognised(named, output_dir, layout)
    return found if found.name in named else recognised(known_runs(log), output_dir, layout)


def recognised(state: State, output_dir: Path | str, layout: str = "") -> Recognised:
    """Say which run of a log, by what it means, has an output directory, or is to have it."""
    apart = layout == FILES
    alike = {it: run for it, run in state.items() if (run.settings.get("layout") == FILES) == apart}
    here = {name: run for name, run in alike.items() if run.output_dir == str(output_dir)}
    asked = here or alike  # whose weights lie there need not be known where the path is one's own
    relations = {name: found for name, run in asked.items() if (found := related(run, output_dir))}
    return choose(state, relations, output_dir)


def choose(state: State, relations: Mapping[str, Relation], output_dir: Path | str) -> Recognised:
    """Decide by how the runs are related to the directory; of equals the last to be there counts.

    A name that another path has already, as 24 bits can do, becomes longer.
    """
    for relation in ("named", "same", "moved"):
        found = [state[name] for name in relations if relations[name] == relation]
        if found:
            return Recognised(max(found, key=lambda run: run.there or _BEGUN).name)
    return Recognised(free_name(state, output_dir), next(reversed(list(relations)), ""))


def free_name(state: State, output_dir: Path | str) -> str:
    """Name a run that a log is to have."""
    names = (run_id(output_dir, digits) for digits in range(6, 65))
    return next(name for name in names if name not in state)


def counterpart(state: State, theirs: Run) -> str:
    """Return which run of a log a run of another log is; "" for none of them.

    It is the same if it began at the same time in the same place, as in copies of one log, or if
    both have seen the same weights under the same name, or if the weights there lie in its folder
    here. A path alone tells nothing on another machine, unless nothing else is known of the run;
    an address does.
    """
    apart = theirs.settings.get("layout") == FILES
    alike = [it for it in state.values() if (it.settings.get("layout") == FILES) == apart]
    weights = _weights(theirs)
    placed = [it for it in alike if it.output_dir == theirs.output_dir]
    ways = (
        [it for it in alike if (it.first_dir, it.begun) == (theirs.first_dir, theirs.begun)],
        [it for it in alike if weights & _weights(it)],
        [
            it
            for it in placed
            if _is_everywhere(it.output_dir)
            or not _weights(it)
            or _has_weights(theirs, Path(it.output_dir))
        ],
    )
    found = next(filter(None, ways), [])
    return max(found, key=lambda it: it.there or _BEGUN).name if found else ""


def _is_everywhere(output_dir: str) -> bool:
    """Whether it is an address that leads to the same place from every machine."""
    return bool(address(output_dir)) and not output_dir.startswith("file:")


def _weights(run: Run) -> set[tuple[str, str]]:
    """Return name and digest of all weights that a run has seen, as far as evaluations tell it."""
    seen = {(it.name, it.digest) for it in run.checkpoints.values() if not it.is_base}
    scored = {(it.checkpoint, it.digest) for it in run.evaluations.values() if not it.of_base}
    return {(name, digest[:8]) for name, digest in seen | scored if digest}


def related(run: Run, output_dir: Path | str) -> Relation | None:
    """Say how a run is related to a directory; None if it is another one's.

    The run's own path, which may lie on a dead mount, is looked at only if its weights are here.
    What lies at an address is not looked at.
    """
    if run.output_dir == str(output_dir):
        return "named"
    if isinstance(output_dir, str):
        return None
    if run.output_dir == os.path.realpath(output_dir):
        return "same"
    if not _has_weights(run, output_dir):
        return None
    with suppress(OSError):
        if output_dir.samefile(run.output_dir):
            return "same"
    return "moved" if _nothing(run.output_dir) else "copy"


def _named(log: Path, output_dir: Path | str) -> State:
    """Read which runs have this very path, and nothing of their checkpoints."""
    if not present(log):
        return {}
    with Journal(log, read_only=True) as journal:
        told = journal.of_types("RunStarted", "OutputDirMoved", "SettingsChanged")
    state = evolve({}, ((it.run, it.event, it.time) for it in told))
    return {name: run for name, run in state.items() if run.output_dir == str(output_dir)}


def known_runs(log: Path) -> State:
    """Read what is known of runs and their checkpoints, and nothing of evaluations.

    Raises:
        JournalError: The log cannot be read.
    """
    if not present(log):
        return {}
    with Journal(log, read_only=True) as journal:
        streams = journal.streams("run/")
        told = (it for stream in streams for it in journal.read(stream=stream))
        return evolve({}, ((it.run, it.event, it.time) for it in told))


def _has_weights(run: Run, output_dir: Path) -> bool:
    try:
        entries = set(os.listdir(output_dir))
    except OSError:
        return False
    newest = sorted(run.checkpoints.values(), key=lambda it: -it.step)
    placed = ((it, _below(run, it)) for it in newest if it.files)
    here = [(it, at) for it, at in placed if at is not None and _entry(it, at) in entries]
    for it, at in here[:_TRIED]:
        with suppress(ClipwatchError, NotWhole, OSError):
            if content_digest(output_dir / at, it.files) == it.digest:
                return True
    return False


def _below(run: Run, checkpoint: Checkpoint) -> Path | None:
    path = Path(checkpoint.path)
    return path.relative_to(run.output_dir) if path.is_relative_to(run.output_dir) else None


def _entry(checkpoint: Checkpoint, at: Path) -> str:
    return at.parts[0] if at.parts else checkpoint.files[0].path.split("/", maxsplit=1)[0]


def _nothing(path: str) -> bool:
    """Whether nothing is there; a folder where something is mounted at other times is empty."""
    try:
        return not os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
