"""What is installed beside clipwatch: entry points by group."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from importlib.util import find_spec
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
    return list(_names(group, tuple(sys.path)))


@cache
def _names(group: str, _where: tuple[str, ...]) -> list[str]:
    """Look once: that reads the metadata of all that is installed, for each of a hundred runs."""
    return sorted(entry_points(group=group).names)


@cache
def load(group: str, name: str) -> Any:
    """Return what is registered as `name` in a group.

    What was found once is not looked for again: that reads the metadata of all that is installed.

    Raises:
        SettingsError: There is none, or its package is missing.
    """
    what = _WHAT[group]
    found = next(iter(entry_points(group=group, name=name)), None)
    if found is None:
        raise SettingsError(f"unknown {what} {name!r}; known: {', '.join(names(group))}")
    try:
        loaded = found.load()
        missing = lacking(needed(loaded))
    except ImportError as error:
        missing = error.name or str(error)
    if missing:
        problem = f"{what} {name!r} needs the package {missing}"
        raise SettingsError(problem, fix=_installing(found, missing))
    return loaded


def needed(loaded: Any) -> str:
    """Return the module that something uses without importing it when it is loaded, "" for none.

    It says so by an attribute `needs`.
    """
    return str(getattr(loaded, "needs", ""))


def lacking(module: str) -> str:
    """Return the module if it is not installed, else ""; it is not imported."""
    return module if module and find_spec(module) is None else ""


def told(module: str) -> str:
    """Return the package that an installed module came with, and its version."""
    found = packages_distributions().get(module, [])
    if not found:  # a folder on PYTHONPATH
        return module
    name = module if module in found else found[0]
    return f"{name} {version(name)}"


def _installing(entry: EntryPoint, module: str) -> str:
    """Return what installs a module: the extra of the package that registered what needs it."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if entry.dist is None:
        return f"pip install {module}"
    wanted = canonicalize_name(module)
    asked = [Requirement(it) for it in entry.dist.requires or ()]
    markers = [it.marker for it in asked if it.marker and canonicalize_name(it.name) == wanted]
    for extra in entry.dist.metadata.get_all("Provides-Extra") or ():
        brought = (it.evaluate({"extra": extra}) > it.evaluate({"extra": ""}) for it in markers)
        if canonicalize_name(extra) == wanted or any(brought):
            return f"pip install '{entry.dist.name}[{extra}]'"
    return f"pip install {module}"
