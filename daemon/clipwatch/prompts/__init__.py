"""The prompts a checkpoint is judged by: libraries of our own, and readers for the user's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from clipwatch.domain.protocol import Prompt
from clipwatch.kit import textfiles
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import plain, refused
from clipwatch.prompts import (
    grammar,
    hub_datasets,
    jsonfiles,
    lines,
    tables,
    tomlfiles,
    trainer,
    yamlfiles,
)
from clipwatch.prompts.listing import (
    LONGEST_NAME,
    MOST,
    Asked,
    Entry,
    Listed,
    asked,
    listed,
    long_note,
)
from clipwatch.prompts.subset import stratified, subset

__all__ = ["FEW", "LARGEST", "LONGEST_NAME", "MOST", "Asked", "Listed", "builtin", "chosen",
           "library", "of_trainer", "read", "shared", "stratified"]  # fmt: skip

FEW = 32
"""Fewer scatter by more than checkpoints differ: one prompt's score spreads by about 0.025."""

LARGEST = 16 * 2**20
"""Bytes of a text file."""

_LIBRARY = Path(__file__).with_name("library.json")
_PARQUET = ".parquet"
_TABLES = (".csv", ".tsv", _PARQUET)
_PLAIN = {
    ".txt": lines.entries,
    ".toml": tomlfiles.entries,
    ".yaml": yamlfiles.entries,
    ".yml": yamlfiles.entries,
}


def builtin() -> tuple[Prompt, ...]:
    """Return the library `core`: eight prompts in each category, from easy to hard."""
    return read(_LIBRARY).prompts


def library(name: str) -> Listed | None:
    """Return the prompts that a name stands for, None for a name that can only be a file's.

    Names are `core`, `compositional:N` and `hf:owner/name[@revision][/split][:column]`.

    Raises:
        SettingsError: What a name of these forms stands for is not there, or cannot be used.
    """
    kind, _, rest = name.partition(":")
    if name == "core":
        return Listed(builtin())
    if kind == "compositional":
        if not re.fullmatch("[0-9]{1,9}", rest) or not 0 < int(rest) <= grammar.MOST:
            fix = f"write it like compositional:500, at most {grammar.MOST}"
            raise SettingsError(f"{plain(name)!r} names no library", fix=fix)
        return Listed(grammar.compositional(int(rest)))
    if kind == "hf":
        dataset = hub_datasets.fetched(plain(name))
        prompts, notes = _read(dataset.files, dataset.column)
        return Listed(prompts, (f"{plain(name)} is read at commit {dataset.commit}", *notes))
    return None


def read(path: Path) -> Listed:
    """Read a prompt file, in its order: one to MOST prompts, each id and text once.

    The form follows from the end of its name: `.txt`, `.jsonl`, `.csv`, `.tsv`, `.toml`,
    `.parquet`, `.yaml`, `.yml`; any other is JSON.

    Raises:
        SettingsError: The file cannot be read as that, or has no prompt; names file and line.
    """
    return _read((path,), "")


def shared(path: Path) -> tuple[Asked, ...]:
    """Return how all prompts of a file alike ask to be sampled, each thing once.

    Raises:
        SettingsError: The file cannot be read as its name says.
    """
    if path.suffix.lower() in _TABLES:  # which have no such columns
        return ()
    with _shallow(path):
        return asked(_entries(path, ""))


def of_trainer(package: Path) -> Listed:
    """Return the image prompts of an installed SimpleTuner; its code is read, never run.

    Args:
        package: The folder of the package `simpletuner`.

    Raises:
        SettingsError: They are not where they were in 4.8.0 and 4.10.1; names the file.
    """
    file = package / trainer.FILE
    found = listed(file, trainer.entries(file, textfiles.read(file, LARGEST)))
    number = len(found.prompts)
    return Listed(found.prompts, (plain(f"SimpleTuner's own {number} prompts, from {file}"),))


def chosen(source: Listed, most: int | None) -> Listed:
    """Return at most that many prompts, spread over the categories, and note what CLIP may cut."""
    prompts = subset(source.prompts, most)
    return Listed(prompts, (*source.notes, *long_note(prompts)))


def _read(paths: tuple[Path, ...], column: str) -> Listed:
    with _shallow(paths[0]):
        return listed(paths[0], chain.from_iterable(_entries(path, column) for path in paths))


@contextmanager
def _shallow(path: Path) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise refused("is nested too deeply for a prompt library", file=path) from None


def _entries(path: Path, column: str) -> Iterator[Entry]:
    form = path.suffix.lower()
    if form == _PARQUET:
        return tables.parquet_entries(path, column)
    text = textfiles.read(path, LARGEST)
    if form in _PLAIN:
        return _PLAIN[form](path, text)
    if form in _TABLES:
        return tables.entries(path, text, column)
    if form in (".jsonl", ".ndjson"):
        return jsonfiles.line_entries(path, text, column)
    return jsonfiles.entries(path, text, column)
