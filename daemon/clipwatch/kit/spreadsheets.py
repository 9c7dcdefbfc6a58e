"""Cells of tables that a spreadsheet may open."""

from __future__ import annotations

import re
from typing import Final

_BEGINS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""What makes a text a formula (OWASP, CSV injection)."""

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def cell(value: object) -> object:
    """Return a value for a CSV file: a text that would be a formula gets a "'" before it.

    What was read from such a file may be written again: nothing is marked twice, and numbers never.
    """
    if isinstance(value, str) and value.startswith(_BEGINS) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def uncelled(text: str) -> str:
    """Return a text of such a file as it was before it was marked."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_BEGINS) else text
