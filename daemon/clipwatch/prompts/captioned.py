"""Images with their captions, as trainers have them: a folder, or a table that names the files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

from clipwatch.domain.losses import Captioned
from clipwatch.kit.textfiles import problem, read, refused

IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
CAPTIONS: Final = (".txt", ".caption")
"""Ends of the file beside an image that holds its caption: everybody's, and sd-scripts'."""

NAMES: Final = ("file_name", "image", "image_path", "filename", "path", "file")
TEXTS: Final = ("caption", "text", "prompt")
"""Columns that name an image's file, and that hold its caption; the most telling first."""

METADATA: Final = ("metadata.jsonl", "metadata.csv")
"""The table of a folder in the form of Hugging Face's `imagefolder`."""

MOST: Final = 100_000
"""Images of one folder or table."""

_LARGEST, _LARGEST_CAPTION = 64 << 20, 1 << 16

Row = tuple[int, Mapping[str, Any]]
"""The line of a row, and its cells by their columns in small letters."""


def captioned(path: Path, most: int) -> tuple[Captioned, ...]:
    """Return at most so many of a folder's or a table's images, always the same ones.

    Which they are depends on nothing but the files' names and the captions, so that a copy
    elsewhere gives the same ones. Tables are JSONL, CSV, TSV and Parquet.

    Raises:
        SettingsError: There is none, an image has no caption, or a file cannot be read.
    """
    found = [*islice(_folder(path) if path.is_dir() else _table(path), MOST + 1)]
    if len(found) > MOST:
        raise refused(f"holds more than {MOST} images", fix="name a part of them", file=path)
    if not found:
        raise refused("holds no image", fix="name images with captions", file=path)
    chosen = sorted(found, key=_lot)[:most]
    for it in chosen:
        if not os.path.isfile(it.path):  # noqa: PTH113 - Path's raises for a name that is too long
            raise refused(f"names {it.path}, and there is no such file", file=path)
    return tuple(chosen)


def _lot(it: Captioned) -> tuple[str, str]:
    text = f"{os.path.basename(it.path)}\0{it.caption}"  # noqa: PTH119 - a text
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), it.path


def _folder(folder: Path) -> Iterator[Captioned]:
    """Yield the images of a folder; a table in it speaks for all, else each has a text beside it.

    Raises:
        SettingsError: One has no caption.
    """
    for name in METADATA:
        if (folder / name).is_file():
            yield from _table(folder / name)
            return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}", file=folder) from None
    there = frozenset(names)
    for name in names:
        stem, end = os.path.splitext(name)  # noqa: PTH122 - a name
        if end.lower() not in IMAGES or name.startswith("."):
            continue
        texts = [f"{stem}{it}" for it in CAPTIONS if f"{stem}{it}" in there]
        if not texts:
            fix = f"write {stem}.txt beside it, empty for none"
            raise refused(f"{name} has no caption", fix=fix, file=folder)
        lines = read(folder / texts[0], _LARGEST_CAPTION).strip().split("\n")
        yield _checked(folder / name, lines[0].strip(), folder / texts[0], 1)


def _table(path: Path) -> Iterator[Captioned]:
    reads = _READ.get(path.suffix.lower())
    if reads is None:
        known = ", ".join(_READ)
        raise refused(f"is neither a folder nor one of {known}", fix="name one", file=path)
    for line, cells in reads(path):
        name = next((cells[it] for it in NAMES if cells.get(it)), None)
        text = next((cells[it] for it in TEXTS if cells.get(it) is not None), None)
        if not isinstance(name, str):
            raise refused(f"names no image as {' or '.join(NAMES)}", file=path, line=line)
        if not isinstance(text, str):
            raise refused(f"has no caption as {' or '.join(TEXTS)}", file=path, line=line)
        yield _checked(path.parent / name, text.strip(), path, line)


def _checked(image: Path, caption: str, file: Path, line: int) -> Captioned:
    """Return an image whose caption any tokenizer takes.

    Raises:
        SettingsError: None does.
    """
    for text in (caption, str(image)):
        if wrong := problem(text):
            raise refused(wrong[0], fix=wrong[1], file=file, line=line)
    return Captioned(str(image), caption)


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read(path, _LARGEST).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise refused("is no JSON", file=path, line=number) from None
        if not isinstance(found, dict):
            raise refused("is no JSON object", file=path, line=number)
        yield number, {key.lower(): value for key, value in found.items()}


def _csv(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.reader(io.StringIO(read(path, _LARGEST), newline=""), delimiter=delimiter)
    try:
        head: Sequence[str] = [it.strip().lower() for it in next(rows, [])]
        for cells in rows:
            if any(cells):
                yield rows.line_num, dict(zip(head, cells, strict=False))
    except csv.Error as error:
        raise refused(f"is no CSV: {error}", file=path, line=rows.line_num) from None


def _parquet(path: Path) -> Iterator[Row]:
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        fix = "run `pip install 'clipwatch[parquet]'`, or name a CSV or JSONL file"
        raise refused("is Parquet", fix=fix, file=path) from None
    try:
        table = parquet.ParquetFile(path)
        wanted = [it for it in table.schema_arrow.names if it.lower() in {*NAMES, *TEXTS}]
        number = 0
        for batch in table.iter_batches(256, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield number, {key.lower(): value for key, value in row.items()}
    except (pyarrow.lib.ArrowException, OSError, ValueError) as error:
        raise refused(f"is no Parquet file that can be read: {error}", file=path) from None


_READ: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
