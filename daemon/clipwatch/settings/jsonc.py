"""JSON as people write it: comments and trailing commas are allowed, every key knows its line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipwatch.kit import textfiles
from clipwatch.kit.textfiles import refused

LARGEST = 2**20
"""Bytes of a file; far above any configuration."""

DEEPEST = 100
"""Objects and lists within each other; ours need 4."""

_KNOWN = 4  # the longest path of a key that is ours: "config", "clipwatch", "wandb", "entity"
_DIGITS = 1000  # int() refuses longer numbers with an error of its own
_DEEP = "is nested too deeply for a configuration"

# what is not closed goes to the end: else a search would begin anew at each of its quotes
_STRING = r'"(?:[^"\\]|\\.?)*+"?'
_COMMENT = re.compile(rf"{_STRING}|#[^\n]*|//[^\n]*|/\*(?:.*?\*/|(?P<open>.*))", re.DOTALL)
_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]:\n]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration in a file.

    Attributes:
        values: Its members.
        lines: Path → line of each key that may be ours.
        variables: What {env:NAME} means in it, before the environment.
        there: Whether there is such a file; else nothing is named after it.
    """

    file: Path
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]
    variables: Mapping[str, str] = field(default_factory=dict)
    there: bool = True


def read(file: Path) -> Document:
    """Read a file; of a key that stands twice the last counts, and keys keep that order.

    Raises:
        SettingsError: It cannot be read, is not JSON, or is not an object; names file and line.
    """
    try:
        content = strip(textfiles.read(file, LARGEST))
        values = json.loads(content, object_pairs_hook=_last_wins, parse_int=_whole)
    except RecursionError:
        raise refused(_DEEP, file=file) from None
    except json.JSONDecodeError as error:
        message = f"is not valid JSON: {error.msg} (column {error.colno})"
        raise refused(message, file=file, line=error.lineno) from None
    if not isinstance(values, dict):
        raise refused('must hold one object: {"output_dir": "...", ...}', file=file, line=1)
    return Document(file, values, _lines(file, content))


def strip(content: str) -> str:
    """Replace comments (`#`, `//`, `/* */`) and trailing commas by spaces.

    Strings stay as they are, and so does the position of everything that is left.
    """
    return _COMMA.sub(_blank, _COMMENT.sub(_blank, content))


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    kept = found.startswith('"') or match.lastgroup == "open"
    return found if kept else re.sub(r"[^\n]", " ", found)


def _last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        members.pop(key, None)  # so that it moves to the place where it stands last
        members[key] = value
    return members


def _whole(digits: str) -> float:
    return int(digits) if len(digits) < _DIGITS else float(digits)


def _lines(file: Path, content: str) -> dict[tuple[str, ...], int]:
    """Return path → line of every key that may be ours, in a text that is valid JSON."""
    lines: dict[tuple[str, ...], int] = {}
    path: list[str] = []
    line, string, string_line = 1, "", 1
    for match in _TOKEN.finditer(content):
        found = match[0]
        if found == "\n":
            line += 1
        elif found in "{[":
            path.append("")
            if len(path) > DEEPEST:
                raise refused(_DEEP, file=file, line=line)
        elif found in "}]":
            path.pop()
        elif found == ":" and len(path) <= _KNOWN:
            path[-1] = json.loads(string)
            lines[tuple(path)] = string_line
        elif found != ":":
            string, string_line = found, line
    return lines
