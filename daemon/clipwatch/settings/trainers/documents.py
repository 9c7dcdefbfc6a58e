"""A trainer's configuration in a file: its values, and the line of each."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipwatch.kit import textfiles, yamlfiles
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import plain, refused
from clipwatch.settings.values import Given

LARGEST: Final = 2**20
"""Bytes of a file; configurations have some thousand."""

_SCRIPT = 2**16  # characters of a script; shlex is slow


@dataclass(frozen=True, slots=True)
class Document:
    """A file, read.

    Attributes:
        file: Absolute.
        text: All of it, "" for what stands in a file of weights.
        values: What it says; of no particular shape.
    """

    file: Path
    text: str
    values: Any

    def at(self, *path: str | int) -> Any:
        """Return the value at a path of keys and places, None where there is none."""
        value = self.values
        for key in path:
            if isinstance(value, dict) and isinstance(key, str):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value

    def given(self, *path: str | int) -> Given | None:
        """Return a value with its place, None for no value or for one that is no plain one."""
        value = self.at(*path)
        if not isinstance(value, str | int | float):  # a bool is an int
            return None
        return self.say(value, *path)

    def say(self, value: Any, *path: str | int) -> Given:
        """Return a value that follows from what stands at a path."""
        keys = [key for key in path if isinstance(key, str)]
        line = _line(self.text, keys) if self.text else None
        source = plain(f"{self.file.name}:{line}" if line else self.file.name)
        return Given(value, source, plain(keys[-1], 200), self.file, line, trainers=True)


def read(path: Path) -> Document:
    """Read a file by the end of its name: TOML, YAML, a script's options, else JSON.

    Raises:
        SettingsError: It is no regular file, too large, or not of that form.
    """
    text = textfiles.read(path, LARGEST)
    form = path.suffix.lower()
    if form in (".yaml", ".yml"):
        return Document(path, text, yamlfiles.parse(path, text))
    parse, name = _FORMS.get(form, (json.loads, "JSON"))
    try:
        return Document(path, text, parse(text))
    except (ValueError, RecursionError) as error:
        raise refused(f"is not {name} that can be read: {error}", file=path) from None


def read_all(paths: Iterable[Path]) -> tuple[list[Document], list[str]]:
    """Return the files that can be read, and a line for each of the others."""
    found, remarks = [], []
    for path in paths:
        try:
            found.append(read(path))
        except SettingsError as error:
            remarks.append(plain(f"{error}"))
    return found, remarks


def flat(document: Document) -> Document:
    """Return a document whose tables have become one, as sd-scripts reads its --config_file.

    That is TOML: what kohya_ss wrote as JSON has none.
    """
    values: dict[str, Any] = {}
    for key, value in document.values.items() if isinstance(document.values, dict) else ():
        table = isinstance(value, dict) and document.file.suffix == ".toml"
        values |= value if table else {key: value}
    return Document(document.file, document.text, values)


def options(text: str) -> dict[str, str | bool]:
    """Return the options of a command line in a script, `--name value` or `--name=value`.

    Nothing in it is run or replaced; a line may go on with a backslash, or with ^ on Windows.

    Raises:
        ValueError: Its quotes do not match, or it is too large.
    """
    if len(text) > _SCRIPT:
        raise ValueError("it is too large for a script")
    words = shlex.split(re.sub(r"[\\^]\s*\n", " ", text), comments=True)
    found: dict[str, str | bool] = {}
    for word, behind in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else behind.startswith("--") or behind
    return found


def _batch(text: str) -> dict[str, str | bool]:
    """Return the same of a script of Windows, in whose paths a backslash stands for itself."""
    return options(re.sub(r"\\(?!\s*\n)", r"\\\\", text))


_FORMS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    ".toml": (tomllib.loads, "TOML"),
    ".sh": (options, "a script"),
    ".bat": (_batch, "a script"),
}


def _line(text: str, keys: list[str]) -> int:
    """Return the line of the last of several keys, each looked for behind the one before."""
    at = 0
    for key in keys:
        match = re.compile(rf"(?<![\w-])-*[\"']?{re.escape(key)}[\"']?\s*[:= ]").search(text, at)
        at = match.end() if match else at
    return text.count("\n", 0, at) + 1
