"""What a file of the trainer's sets, by the trainer's own rules for names and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from clipwatch.settings.jsonc import Document
from clipwatch.settings.settings import TRAINER_KEYS
from clipwatch.settings.simpletuner.tables import option_of
from clipwatch.settings.sources import OWN, OWN_FILE, Named, members
from clipwatch.settings.values import Given

_RENAMED = {"save_total_limit": "checkpoints_total_limit"}  # configuration/cli_utils.py


def written(document: Document, environ: Mapping[str, str]) -> dict[str, list[Given]]:
    """Return what the trainer's file sets, by the names of the trainer's options.

    An alias, or the beginning of one option's name and no other's, stands for the option, as on
    the trainer's command line; what it knows not at all has its own name.
    """
    found: dict[str, list[Given]] = {}
    if document.file.name != OWN_FILE:
        for name, given in members(document, (), document.values, environ):
            if name != OWN and given.value is not None:
                found.setdefault(_option_of(name), []).append(given)
    return found


def for_clipwatch(document: Document, environ: Mapping[str, str]) -> Iterator[Named]:
    """Yield the trainer's keys that clipwatch evaluates, by the trainer's own rules."""
    for written_name, given in members(document, (), document.values, environ):
        name, value = _option_of(written_name), given.value
        if name not in TRAINER_KEYS or isinstance(value, dict):
            continue
        if isinstance(value, list) and name != "report_to":  # repeated options: the last wins
            value = next((it for it in reversed(value) if str(it).strip()), None)
        if isinstance(value, str) and value.lower() == "false":  # dropped: the default stays
            continue
        yield name, replace(given, value=value, trainers=True)


def _option_of(name: str) -> str:
    known, name = option_of(), _RENAMED.get(name, name)
    if name in known:
        return known[name]
    begun = {option for spelling, option in known.items() if name and spelling.startswith(name)}
    return begun.pop() if len(begun) == 1 else name
