"""Every image's scores as a table for other programs; no more of it is held than a part."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from clipwatch.kit.errors import SettingsError
from clipwatch.kit.spreadsheets import cell
from clipwatch.results.rows import ImageRow

COLUMNS: Final = tuple(it.name for it in fields(ImageRow))
"""In their order, which is for good: later ones come behind."""

GROUP: Final = 10_000
"""Rows that a Parquet file has in one group, and that are held for it."""


def write(rows: Iterable[ImageRow], form: str, file: IO[bytes]) -> None:
    """Write rows as a table.

    Raises:
        OSError: They cannot be written.
        JournalError: The rows cannot be read.
    """
    {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}[form](rows, file)
    file.flush()


def check(form: str, output: Path | None) -> None:
    """Refuse a table that cannot be written, before anything is read.

    Args:
        form: "jsonl", "csv" or "parquet".
        output: Its file, None to print it.

    Raises:
        SettingsError: A package lacks, or it cannot go where it is to.
    """
    if form != "parquet":
        return
    if output is None:
        raise SettingsError("parquet is not for reading", fix="name a file with -o")
    pyarrow()


@contextmanager
def replacing(output: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another one in the end; of a failure nothing stays.

    Raises:
        SettingsError: It cannot be made.
        OSError: It cannot be written to its end.
    """
    path = Path(os.path.realpath(output))
    fresh = path.with_name(f".{path.name}.new")
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{output} is no file", fix="name one with -o")
        file = fresh.open("wb")
    except OSError as error:
        fix = "name another file with -o"
        raise SettingsError(f"{output} cannot be made: {error.strerror}", fix=fix) from error
    try:
        with file:
            yield file
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _jsonl(rows: Iterable[ImageRow], file: IO[bytes]) -> None:
    encode = msgspec.json.Encoder().encode
    for row in rows:
        file.write(encode(row) + b"\n")


def _csv(rows: Iterable[ImageRow], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        cells = attrgetter(*COLUMNS)
        for row in rows:
            writer.writerow(map(cell, cells(row)))
    finally:
        text.detach()  # the file is the caller's


def _parquet(rows: Iterable[ImageRow], file: IO[bytes]) -> None:
    lib, parquet = pyarrow()
    kinds = {
        **dict.fromkeys(COLUMNS, lib.string()),
        **dict.fromkeys(("step", "index", "seed"), lib.int64()),
        **dict.fromkeys(("strength", "score"), lib.float64()),
    }
    schema = lib.schema(list(kinds.items()))
    left = iter(rows)
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(left, GROUP)):
            columns = {name: [getattr(row, name) for row in group] for name in COLUMNS}
            writer.write_table(lib.table(columns, schema=schema))


def pyarrow() -> tuple[Any, Any]:
    """Return the package and its module for Parquet.

    Raises:
        SettingsError: It is not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        fix = "pip install 'clipwatch[parquet]', or take csv or jsonl"
        raise SettingsError("parquet needs a package", fix=fix) from None
