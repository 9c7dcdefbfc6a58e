"""The trainer's configuration in each form that it takes: JSON, TOML, and variables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipwatch.kit import textfiles
from clipwatch.kit.textfiles import refused
from clipwatch.settings import jsonc
from clipwatch.settings.jsonc import Document
from clipwatch.settings.simpletuner import tables

NAMES = ("config.json", "config.toml", "config.env")
"""In the order in which the trainer looks for them."""

_WRAPPER = "config"
_OWN = "clipwatch"
_ENV = NAMES[-1]
_ENOUGH = {"model_family", "output_dir", "pretrained_model_name_or_path"}
_EXTRA = "TRAINER_EXTRA_ARGS"
_DEPTH = 4

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")
_MEMBER = re.compile(
    r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_KEY = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(\w+)\s*(\+?=)(.*)")


def read(file: Path) -> Document:
    """Read a configuration by the end of its name; all that is not .toml or .env is JSON.

    The variables of a config.env beside it, and of one in the folder `config` above, hold in it,
    as the trainer sets them first (its configuration/loader.py).

    Raises:
        SettingsError: It cannot be read, or is not of that form; names file and line.
    """
    if file.suffix == ".toml":
        document = _toml(file)
    elif file.suffix == ".env":
        document = _env(file)
    else:
        document = _unwrapped(jsonc.read(file))
    variables: dict[str, str] = {}
    for folder in (file.parent.parent, file.parent):
        beside = folder / _ENV
        if (folder.name == _WRAPPER or folder == file.parent) and beside.is_file():
            variables |= {name: value for name, (value, _) in _assigned(beside).items()}
    return replace(document, variables=variables)


def _unwrapped(document: Document) -> Document:
    """Return what the trainer's web interface of earlier versions keeps in an object "config".

    Raises:
        SettingsError: Other settings stand beside it, so that nobody can tell which are meant.
    """
    inner = document.values.get(_WRAPPER)
    if not isinstance(inner, dict):
        return document
    outer = {key.strip().lstrip("-"): key for key in document.values}
    beside = [key for name, key in outer.items() if name not in {_WRAPPER, "_metadata", _OWN}]
    if beside and outer.keys() & _ENOUGH:
        return document  # a whole configuration, in which it is one more object
    if beside:
        raise refused(
            f"settings stand in it, and beside it {', '.join(beside)}",
            fix="move them into it",
            file=document.file,
            line=document.lines[_WRAPPER,],
            key=_WRAPPER,
        )
    values = {key: it for key, it in document.values.items() if key == _OWN} | inner
    below = {path[1:]: line for path, line in document.lines.items() if path[0] == _WRAPPER}
    return replace(document, values=values, lines=document.lines | below)


def _toml(file: Path) -> Document:
    text = textfiles.read(file, jsonc.LARGEST)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else None
        raise refused(f"is not valid TOML: {error}", file=file, line=line) from None
    except RecursionError:
        raise refused("is nested too deeply for a configuration", file=file) from None
    written = dict(_toml_lines(text))
    return Document(file, values, dict(_all_lines(values, (), written, 1)))


def _toml_lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield path → line of each key that begins a line."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.fullmatch(line):
            table = _path(header[1])
            yield table, number
        elif member := _MEMBER.match(line):
            yield (*table, *_path(member[1])), number


def _path(written: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _KEY.findall(written))


def _all_lines(
    values: Mapping[str, Any],
    outer: tuple[str, ...],
    written: Mapping[tuple[str, ...], int],
    line: int,
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield path → line of all that may be ours; a key within a line has the line."""
    for key, value in values.items():
        path = (*outer, key)
        at = written.get(path, line)
        yield path, at
        if isinstance(value, dict) and len(path) < _DEPTH:
            yield from _all_lines(value, path, written, at)


def _assigned(file: Path) -> dict[str, tuple[str, int]]:
    """Return variable → value and line."""
    text = textfiles.read(file, jsonc.LARGEST)
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        assigned = _ASSIGNMENT.match(line)
        if assigned is None or line.lstrip().startswith("#"):
            continue
        name, sign, value = assigned[1], assigned[2], _unquoted(assigned[3].strip())
        if sign == "+=" and name in found:
            value = f"{found[name][0]} {value}".strip()
        found[name] = (" ".join(value.split()), number)
    return found


def _env(file: Path) -> Document:
    """Read a config.env: variables by the trainer's table, and TRAINER_EXTRA_ARGS."""
    found = _assigned(file)
    values: dict[str, Any] = {}
    lines: dict[tuple[str, ...], int] = {}
    variables = tables.table(tables.versions()[-1]).variables
    for name, (value, number) in found.items():
        if name in variables and "${" not in value:
            values[variables[name]], lines[variables[name],] = value, number
    extra, number = found.get(_EXTRA, ("", 0))
    for key, value in _arguments(extra):
        values[key], lines[key,] = value, number
    if not values.keys() & _ENOUGH:
        raise refused("names no model to train", fix="name SimpleTuner's config.json", file=file)
    return Document(file, values, lines)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _arguments(extra: str) -> Iterator[tuple[str, Any]]:
    """Yield the options of a command line: --key=value, --key value, or --key alone for true."""
    words = [word for word in extra.split() if "${" not in word]
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        key, sign, value = word[2:].partition("=")
        following = words[index + 1] if index + 1 < len(words) else "--"
        if not sign:
            value = "true" if following.startswith("--") else following
        yield key, value
