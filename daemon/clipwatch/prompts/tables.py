"""Tables with a header: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts.listing import Entry

TEXTS = ("prompt", "prompts", "caption", "text")
"""Columns that hold a prompt, the most telling first; big and small letters are the same."""

UNPACKED = 64 * 2**20
"""Signs that the texts of a Parquet file may hold; a kilobyte of it can be gigabytes."""

_ROWS = 16  # that are unpacked at once

Line = tuple[int, Sequence[str]]


def entries(path: Path, text: str, column: str) -> Iterator[Entry]:
    """Yield the rows of a CSV or TSV file; `column` holds the prompts, "" for one of TEXTS.

    Raises:
        SettingsError: There is no such column, or the file is no table.
    """
    if path.suffix.lower() == ".tsv":
        return _rows(path, _tsv(text), column)
    return _rows(path, _csv(path, text), column)


def parquet_entries(path: Path, column: str) -> Iterator[Entry]:
    """Yield the rows of a Parquet file, by the number of the row.

    Raises:
        SettingsError: There is no such column, the file is broken or too large, or pyarrow lacks.
    """
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        fix = "run `pip install pyarrow`, or name a CSV, JSON or text file"
        raise refused("is Parquet", fix=fix, file=path) from None

    def rows() -> Iterator[Line]:
        table = parquet.ParquetFile(path)
        wanted = {*TEXTS, "id", "category", column.lower()}
        names = [name for name in table.schema_arrow.names if name.lower() in wanted]
        yield 1, names
        line = size = 0
        for batch in table.iter_batches(_ROWS, columns=names):
            for row in batch.to_pylist():
                line += 1
                cells = ["" if row[name] is None else str(row[name]) for name in names]
                size += sum(map(len, cells))
                if size > UNPACKED:
                    raise refused(f"unpacks to more than {UNPACKED >> 20} MiB", file=path)
                yield line, cells

    try:
        yield from _rows(path, rows(), column)
    except (pyarrow.lib.ArrowException, OSError, ValueError) as error:
        raise refused(f"is no Parquet file that can be read: {error}", file=path) from None


def _csv(path: Path, text: str) -> Iterator[Line]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in rows:
            yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise refused(f"is not CSV: {error}", file=path, line=line) from None


def _tsv(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """Return what a program that writes quotes meant; a quotation within a prompt stays."""
    inner = cell[1:-1].replace('""', "")
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if quoted else cell


def _rows(path: Path, rows: Iterator[Line], column: str) -> Iterator[Entry]:
    """Yield an entry for each row below the header, an empty one for a row without cells."""
    line, header = next(((line, row) for line, row in rows if any(row)), (1, []))
    names = [name.strip().lower() for name in header]
    places = {name: names.index(name) for name in names}
    wanted = (column.strip().lower(),) if column else TEXTS
    prompt = next((places[name] for name in wanted if name in places), None)
    if prompt is None:
        message = f"has no column {' or '.join(wanted)}; the first line names {', '.join(header)}"
        raise refused(message, file=path, line=line)
    for number, cells in rows:
        if len(cells) > len(names):
            message = f"has {len(cells)} cells, the header {len(names)}"
            raise refused(message, fix="quote cells with commas", file=path, line=number)
        row = dict(enumerate(cells))
        name, category = (row.get(places.get(it, -1), "") for it in ("id", "category"))
        yield Entry(path, number, row.get(prompt, ""), name, category)
