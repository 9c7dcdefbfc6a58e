"""What is installed beside clipwatch: entry points by group."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, Final

from packaging.requirements import Requirement

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
def lacking(group: str, name: str) -> str:
    """Return the command that installs the packages which one needs and which are not here.

    "" if all are. An entry point names the extra of its package that brings them, `NAME =
    "module:object [EXTRA]"`: so nothing is imported to find out.
    """
    return next((_lacking(it) for it in entry_points(group=group, name=name)), "")


def _lacking(entry: EntryPoint) -> str:
    if (package := entry.dist) is None:
        return ""
    for extra in entry.extras:
        for needed in map(Requirement, package.requires or ()):
            marker = needed.marker
            if marker and marker.evaluate({"extra": extra}) > marker.evaluate({"extra": ""}):
                try:
                    version(needed.name)
                except PackageNotFoundError:
                    return f"pip install '{package.name}[{extra}]'"
    return ""


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
    if fix := lacking(group, name):
        raise SettingsError(f"{what} {name!r} needs a package", fix=fix)
    try:
        return next(iter(found)).load()
    except ImportError as error:
        raise SettingsError(
            f"{what} {name!r} needs a package", fix=f"pip install {error.name}"
        ) from error
