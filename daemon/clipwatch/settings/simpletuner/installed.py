"""Where SimpleTuner is installed, and which version: found by its files, never imported."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clipwatch.settings.places import below
from clipwatch.settings.values import Given

_NAME = "simpletuner"
_VERSION = re.compile(r"""^__version__\s*=\s*["']([^"']{1,50})["']""", re.MULTILINE)
_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed SimpleTuner.

    Attributes:
        package: The folder that holds `helpers/` and `examples/`, absolute.
        version: As it says, "" where it does not.
        source: How it was found, for a person.
    """

    package: Path
    version: str
    source: str


def find(named: Given, environ: Mapping[str, str], cwd: Path) -> Installed | None:
    """Return the SimpleTuner that simpletuner_path names, else this environment's, else PATH's.

    Args:
        named: simpletuner_path: the package's folder, site-packages, a virtual environment or a
            checkout; None to look.
        environ: The environment variables.
        cwd: For a relative path in a flag or a variable; one in a file is relative to that.

    Raises:
        SettingsError: simpletuner_path names something else.
    """
    if named.value:
        folder = below(named.file.parent if named.file else cwd, named.value)
        if found := _in(folder, named.source):
            return found
        raise named.error(
            f"there is no SimpleTuner in {str(folder)!r}",
            fix="name its package folder, the "
            "site-packages or the virtual environment that has it, or a checkout",
        )
    return _here() or _on_path(environ)


def _in(folder: Path, source: str) -> Installed | None:
    """Return what a folder holds, at the top or in one of the usual places below it."""
    for package in _packages(folder):
        if os.path.isdir(package / "helpers"):  # noqa: PTH112 - Path's raises where it may not look
            return Installed(package, _version(package), source)
    return next((_in(checkout, source) for checkout in _editable(folder)), None)


def _packages(folder: Path) -> Iterator[Path]:
    yield folder / _NAME
    yield from (site / _NAME for site in _sites(folder))
    yield folder


def _sites(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("lib/python3.*/site-packages"))


def _editable(folder: Path) -> Iterator[Path]:
    """Yield the checkouts that an installation only points to."""
    for site in (folder, *_sites(folder)):
        for told in site.glob(f"{_NAME}-*.dist-info/direct_url.json"):
            yield from _checkout(told.read_text(encoding="utf-8"))


def _checkout(told: str) -> Iterator[Path]:
    """Yield the folder that a direct_url.json (PEP 610) names."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        address = urlsplit(json.loads(told)["url"])
        if address.scheme == "file":
            yield Path(unquote(address.path)) / _NAME


def _here() -> Installed | None:
    try:
        distribution = metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        return None
    source = "installed in clipwatch's environment"
    places = [Path(str(distribution.locate_file(_NAME)))]
    places += _checkout(distribution.read_text("direct_url.json") or "{}")
    return next(filter(None, (_in(place, source) for place in places)), None)


def _on_path(environ: Mapping[str, str]) -> Installed | None:
    """Return the one whose command is on PATH; an installer's link is followed to its place."""
    command = shutil.which(_NAME, path=environ.get("PATH", os.defpath))
    if command is None:
        return None
    for program in (Path(command), Path(os.path.realpath(command))):
        if found := _in(program.parent.parent, f"of the command {command}"):
            return found
    return None


def _version(package: Path) -> str:
    try:
        with (package / "__init__.py").open(encoding="utf-8", errors="replace") as file:
            found = _VERSION.search(file.read(_LONGEST))
    except OSError:
        return ""
    return found[1] if found else ""
