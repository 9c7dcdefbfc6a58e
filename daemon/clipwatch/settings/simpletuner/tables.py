"""What SimpleTuner says of its options and families, by version.

The files beside this one are made by scripts/simpletuner_tables.py and
scripts/diffusers_pipelines.py; they are read when a configuration is loaded, and not before.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Flavour:
    """A variant of a family: the Hub id of its pipeline, and what it has of its own."""

    name: str
    model: str
    known: Mapping[str, Any]

    @property
    def pipeline(self) -> str:
        """The class of its text-to-image pipeline, "" where the trainer has none."""
        return str(self.known.get("pipeline", ""))

    @property
    def edits(self) -> bool:
        """Its validation starts from pictures."""
        return bool(self.known.get("edits"))


@dataclass(frozen=True, slots=True)
class Family:
    """A model family by the name that the trainer's parser takes; `known` is its table."""

    name: str
    known: Mapping[str, Any]

    @property
    def modality(self) -> str:
        """What it makes: "image", "video" or "audio"."""
        return str(self.known["modality"])

    @property
    def default(self) -> str:
        """The flavour that is taken when none is named, "" where one must be."""
        return str(self.known["default"])

    @property
    def flow(self) -> bool:
        """It predicts a flow."""
        return str(self.known.get("prediction", "")).startswith("flow")

    @property
    def flavours(self) -> Mapping[str, Any]:
        """Flavour → its table."""
        flavours: Mapping[str, Any] = self.known["flavours"]
        return flavours

    def flavour(self, name: str) -> Flavour | None:
        """Return a flavour, None for one that the trainer does not have."""
        known = self.flavours.get(name)
        return None if known is None else Flavour(name, known["model"], known)


@dataclass(frozen=True, slots=True)
class Table:
    """One version of the trainer.

    Attributes:
        version: As the trainer writes it.
        options: Option → its type, default, choices, aliases, section and families.
        variables: Variable of a config.env → option.
        families: Family → its table.
    """

    version: str
    options: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, str]
    families: Mapping[str, Mapping[str, Any]]

    def family(self, name: str) -> Family | None:
        """Return the family of that name, in any spelling that the trainer takes."""
        plain = _plain(name)
        for family, known in self.families.items():
            if plain in map(_plain, known["spellings"]):
                return Family(family, known)
        return None

    def near(self, name: str) -> str:
        """Return the spelling of a family that looks most like a name, "" for none."""
        spellings = [it for known in self.families.values() for it in known["spellings"]]
        return next(iter(difflib.get_close_matches(name.lower(), spellings, n=1)), "")


def versions() -> tuple[str, ...]:
    """Return the versions that there is a table of, the oldest first."""
    names = (path.stem for path in _FOLDER.glob("[0-9]*.json"))
    return tuple(sorted(names, key=Version))


def nearest(version: str) -> str:
    """Return the version whose table holds for another: the newest that is not newer.

    The oldest for one that is older than all, the newest for one that is no version at all.
    """
    known = versions()
    try:
        wanted = Version(version)
    except InvalidVersion:
        return known[-1]
    return next((it for it in reversed(known) if Version(it) <= wanted), known[0])


@cache
def table(version: str) -> Table:
    """Return the table of one of `versions()`."""
    read = json.loads((_FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    return Table(read["simpletuner"], read["options"], read["variables"], read["families"])


@cache
def every_option() -> Mapping[str, Mapping[str, Any]]:
    """Return the options of all versions, the newest table of each."""
    found: dict[str, Mapping[str, Any]] = {}
    for version in versions():
        found |= table(version).options
    return found


@cache
def option_of() -> Mapping[str, str]:
    """Return every name of an option → the option's own."""
    aliases = {
        it: name for name, known in every_option().items() for it in known.get("aliases", ())
    }
    return aliases | {name: name for name in every_option()}


@cache
def pipelines() -> tuple[str, frozenset[str]]:
    """Return the version of diffusers, and the pipeline classes that it exports."""
    read = json.loads((_FOLDER / "diffusers.json").read_text(encoding="utf-8"))
    return read["diffusers"], frozenset(read["pipelines"])


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
