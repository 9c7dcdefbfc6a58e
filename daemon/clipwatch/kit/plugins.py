"""What is installed beside clipwatch: entry points by group."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from clipwatch.kit.errors import SettingsError

TRACKERS: Final = "clipwatch.adapters"
"""Where results are published: see delivery.trackers."""

SCORERS: Final = "clipwatch.scorers"
"""What gives images their numbers: see models.kinds."""

LAYOUTS: Final = "clipwatch.layouts"
"""How trainers leave their checkpoints: see layouts.base."""

EXECUTORS: Final = "clipwatch.executors"
"""Where evaluations run: see executors.base."""

_WHAT: Final = {
    TRACKERS: "tracker",
    SCORERS: "kind of scorers",
    LAYOUTS: "layout",
    EXECUTORS: "executor",
}


def names(group: str) -> list[str]:
    """Return the names that are installed in a group, sorted."""
    return sorted(entry_points(group=group).names)


@cache
def load(group: str, name: str) -> Any:
    """Return what is registered as `name` in a group.

    What was found once is not looked for again: that reads the metadata of all that is installed.

    Raises:
        SettingsError: There is none, or its package is missing.
    """
    what = _WHAT[group]
    found = entry_points(group=group, name=name)
    if not found:
        raise SettingsError(f"unknown {what} {name!r}; known: {', '.join(names(group))}")
    try:
        return next(iter(found)).load()
    except ImportError as error:
        raise SettingsError(
            f"{what} {name!r} needs a package", fix=f"pip install {error.name}"
        ) from error
