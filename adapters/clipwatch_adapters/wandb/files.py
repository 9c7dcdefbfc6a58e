"""Read `.wandb` files: W&B's protobuf records in frames (shared/frames.py), without its package.

Field numbers are those of wandb_internal.proto; `test_wandb_offline.py` holds them against files by
the real package.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from itertools import islice
from typing import TYPE_CHECKING, Any

from clipwatch_adapters.shared.frames import fields, parts, records

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b":W&B\xe1\xbe\x00"

HISTORY, RUN, EXIT = 2, 17, 18
"""Fields of a Record."""
ITEM, KEY, NESTED_KEY, VALUE_JSON = 1, 1, 2, 16
"""Fields of a HistoryRecord and of its items."""
RUN_ID, PROJECT = 1, 3
"""Fields of a RunRecord."""


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder, by name; nothing if there is no such folder.

    Raises:
        OSError: The folder cannot be read. `glob` would hide that, and the runs with it.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch(path.name, pattern))
    except FileNotFoundError:
        return []


def finished_rows(folder: Path) -> tuple[dict[str, Any], ...] | None:
    """Return the history rows in a run's folder in order; None unless it was finished whole.

    Raises:
        OSError: The folder or its file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    finished = False
    try:
        for path in matching(folder, "run-*.wandb"):
            for record in records(path, HEADER):
                rows.extend(_row(history) for history in parts(record, HISTORY))
                finished = finished or any(True for _ in parts(record, EXIT))
    except ValueError:
        return None
    return tuple(rows) if finished else None


def _row(history: bytes) -> dict[str, Any]:
    row = {}
    for item in parts(history, ITEM):
        names = [*parts(item, NESTED_KEY)] or [*parts(item, KEY)]
        name = ".".join(name.decode() for name in names)
        row[name] = json.loads(next(parts(item, VALUE_JSON), b"null"))
    return row


def trainer_run(folder: Path, project: str) -> str:
    """Return the id of the run that a trainer last began below its `wandb` folder.

    "" if there is none, if it belongs to another project, or if its file does not say yet (W&B
    writes the record some 15 s after the start).
    """
    try:
        for path in matching(folder / "latest-run", "run-*.wandb"):
            for record in islice(records(path, HEADER), 100):
                for run in parts(record, RUN):
                    names = {n: value for n, value in fields(run) if n in {RUN_ID, PROJECT}}
                    found, owner = names.get(RUN_ID, b""), names.get(PROJECT, b"")
                    if isinstance(found, bytes) and owner == project.encode():
                        return found.decode()
    except (OSError, ValueError):
        pass  # unreadable is as good as absent: the group falls back to the run's name
    return ""
