"""Which configurations lie below a folder: those that `clipwatch start` would take in each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clipwatch.settings.jsonc import Document
from clipwatch.settings.simpletuner import forms, options
from clipwatch.settings.sources import OWN, OWN_FILE

DEEPEST: Final = 8
"""Folders between the one that was named and a configuration."""

MOST_FOLDERS: Final = 20_000
"""Of a tree; those of checkpoints are not entered."""

MOST: Final = 1_000
"""Configurations; a thousand runs are a daemon's most."""

_PASSED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_CHECKPOINT, _PIPELINE, _HIDDEN = "checkpoint-", "model_index.json", "."
_PROJECTS = "config"


@dataclass(frozen=True, slots=True)
class Below:
    """What a look below a folder found.

    Attributes:
        configs: One of each folder that has any, sorted by path.
        left: What was not looked at, for a person; "" for nothing.
    """

    configs: tuple[Path, ...] = ()
    left: str = ""


@dataclass(slots=True)
class _Walk:
    """A look under way: what was found, the folders that were entered, and what was not."""

    configs: list[Path] = field(default_factory=list)
    entered: set[tuple[int, int]] = field(default_factory=set)
    left: str = ""


def configs_below(root: Path) -> Below:
    """Look for configurations in a folder and below it.

    Each folder is entered once, whatever links lead there. Hidden ones, checkpoints and pipelines
    are not; a folder below that cannot be read is as an empty one.

    Args:
        root: The folder.

    Raises:
        OSError: The folder itself cannot be read.
    """
    walk, level = _Walk(), [root]
    for depth in range(DEEPEST + 1):
        folders: list[Path] = []
        for folder in level:
            try:
                folders += _enter(folder, walk)
            except OSError:
                if folder == root:
                    raise
        if not folders:
            break
        level = folders
        if depth == DEEPEST:
            walk.left = walk.left or f"what lies more than {DEEPEST} folders deep"
    return Below(tuple(sorted(walk.configs)), walk.left)


def _enter(folder: Path, walk: _Walk) -> Iterator[Path]:
    """Take note of a folder's configuration; yield the folders in it that are to be entered."""
    found = folder.stat()
    place = (found.st_dev, found.st_ino)
    if place in walk.entered:
        return
    if len(walk.entered) >= MOST_FOLDERS:
        walk.left = f"all beyond the first {MOST_FOLDERS} folders"
        return
    walk.entered.add(place)
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda it: it.name)
        names = {it.name for it in listed}
        inner = [it.name for it in listed if _is_folder(it)]
    name = chosen(names)
    if name and (folder / name).is_file():
        if len(walk.configs) < MOST:
            walk.configs.append(folder / name)
        else:
            walk.left = f"all beyond the first {MOST} configurations"
    if _PIPELINE not in names:
        yield from (folder / it for it in inner if not _is_passed(it))


def chosen(names: Collection[str]) -> str:
    """Return which of these files of a folder `start` would take, "" for none."""
    return next((it for it in (*forms.NAMES, OWN_FILE) if it in names), "")


def project_of(config: Path, root: Path) -> Path:
    """Return the folder from which a configuration's training is started.

    That is the one above a folder `config`, as SimpleTuner has it, else the configuration's own.

    Args:
        config: Lies below `root`.
        root: The folder that was looked through.
    """
    above = [it for it in config.parents if it.is_relative_to(root)]
    return next((it.parent for it in above if it.name == _PROJECTS), config.parent)


def asks(config: Path, environ: Mapping[str, str]) -> bool:
    """Whether a configuration asks for CLIP scores, or has a part that is clipwatch's.

    Raises:
        SettingsError: It cannot be read; names file and line.
    """
    if config.with_name(OWN_FILE).exists():
        return True
    document = forms.read(config)
    return _has_own(document) or _evaluation(document, environ) == "clip"


def _has_own(document: Document) -> bool:
    return any(key.strip().lstrip("-") == OWN for key in document.values)


def _evaluation(document: Document, environ: Mapping[str, str]) -> str:
    given = dict(options.for_clipwatch(document, environ)).get("evaluation_type")
    return str(given.value).strip() if given else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that is closed
        return False


def _is_passed(name: str) -> bool:
    return name.startswith((_HIDDEN, _CHECKPOINT)) or name in _PASSED
