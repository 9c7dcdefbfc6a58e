"""JSON as people write it: comments and trailing commas are allowed, every key knows its line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwatch.errors import SettingsError

_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|#[^\n]*|//[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]:\n]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """A file that holds one JSON object; `lines` knows the line of every key by its path."""

    file: Path
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]


def read(file: Path) -> Document:
    """Read a file; of a key that stands twice the last counts, and keys keep that order.

    Raises:
        SettingsError: It cannot be read, is not JSON, or is not an object; names file and line.
    """
    try:
        content = strip(file.read_bytes().decode("utf-8-sig"))
        values = json.loads(content, object_pairs_hook=_last_wins)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise SettingsError("is not UTF-8: save the file in that encoding", file=file) from None
    except json.JSONDecodeError as error:
        message = f"is not valid JSON: {error.msg} (column {error.colno})"
        raise SettingsError(message, file=file, line=error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"is not usable JSON: {error}", file=file) from None
    if not isinstance(values, dict):
        raise SettingsError('must hold one object: {"output_dir": "...", ...}', file=file, line=1)
    return Document(file, values, _lines(content))


def strip(content: str) -> str:
    """Replace comments (`#`, `//`, `/* */`) and trailing commas by spaces.

    Strings stay as they are, and so does the position of everything that is left.
    """
    return _COMMA.sub(_blank, _COMMENT.sub(_blank, content))


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        members.pop(key, None)  # so that it moves to the place where it stands last
        members[key] = value
    return members


def _lines(content: str) -> dict[tuple[str, ...], int]:
    """Return path → line of every key in a text that is known to be valid JSON."""
    lines: dict[tuple[str, ...], int] = {}
    path: list[str] = []
    line, string, string_line = 1, "", 1
    for match in _TOKEN.finditer(content):
        found = match[0]
        if found == "\n":
            line += 1
        elif found in "{[":
            path.append("")
        elif found in "}]":
            path.pop()
        elif found == ":":
            path[-1] = json.loads(string)
            lines[tuple(path)] = string_line
        else:
            string, string_line = found, line
    return lines
