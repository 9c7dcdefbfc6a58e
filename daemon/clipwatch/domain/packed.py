"""Rows with the same fields, written in columns: the same in half of the room. Pure.

A column is {"all": VALUE} where all rows have the same, {"begin": TEXT, "rest": [...]} of texts
that begin alike, {"of": {NAME: COLUMN, ...}} of objects with the same fields, else {"each": [...]}.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec

FIELDS: Final = {"ImagesScored": "images", "ImagesRescored": "scores"}
"""The types of events that may be written so, and the field that holds their rows."""

MOST: Final = 256
"""Rows that stand together at most: a page of events is held in memory by who reads it."""


def packed(told: dict[str, Any], field: str) -> dict[str, Any]:
    """Return what an event says with the rows of a field in columns, or as it is if it has none."""
    rows = told[field]
    if not 0 < len(rows) <= MOST or any(row.keys() != rows[0].keys() for row in rows):
        return told
    columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
    return {**told, field: {"rows": len(rows), "columns": columns}}


def unpacked(told: dict[str, Any], field: str) -> dict[str, Any]:
    """Return what an event says with its rows as they were, packed or not.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: It says neither.
    """
    if not isinstance(found := told[field], dict):
        return told
    return {**told, field: _rows(found["columns"], found["rows"])}


def _column(values: Sequence[Any]) -> dict[str, Any]:
    first = values[0]
    # as they are written: 1 and 1.0 are equal, and so are 0.0 and -0.0
    if all(it == first for it in values) and len({*map(msgspec.json.encode, values)}) == 1:
        return {"all": first}
    if isinstance(first, dict) and all(
        isinstance(it, dict) and it.keys() == first.keys() for it in values
    ):
        return {"of": {name: _column([it[name] for it in values]) for name in first}}
    if all(isinstance(it, str) for it in values) and (begin := _common(values)):
        return {"begin": begin, "rest": [it[len(begin) :] for it in values]}
    return {"each": values}


def _common(texts: Sequence[str]) -> str:
    """Return what all begin with."""
    pairs = zip(min(texts), max(texts), strict=False)
    return "".join(one for one, _ in takewhile(lambda it: it[0] == it[1], pairs))


def _rows(columns: dict[str, Any], count: int) -> list[dict[str, Any]]:
    if not 0 < count <= MOST:
        raise ValueError(f"{count} rows")
    values = [_values(it, count) for it in columns.values()]
    if any(len(it) != count for it in values):
        raise ValueError("columns that are not equally long")
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _values(column: dict[str, Any], count: int) -> Sequence[Any]:
    match column:
        case {"all": value}:
            return [value] * count
        case {"of": columns}:
            return _rows(columns, count)
        case {"begin": begin, "rest": rest}:
            return [begin + it for it in rest]
    each: Sequence[Any] = column["each"]
    return each
