"""The prompts a checkpoint is judged by: a library of our own, and readers for the user's."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipwatch.prompts import textfiles
from clipwatch.prompts.textfiles import problem, refused
from clipwatch.protocol import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 100_000
"""Images of a checkpoint, and so prompts of a file; more would never be finished."""

FEW = 32
"""Fewer scatter by more than checkpoints differ: one prompt's score spreads by about 0.025."""

LARGEST = 16 * 2**20
"""Bytes of a file."""

LONGEST_NAME = 200
"""Characters of a prompt's name; it becomes a tag in trackers."""

_LIBRARY = Path(__file__).with_name("library.json")
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))  # of Persian and Indic words, and of emoji

# int() refuses very long numbers with an error of its own; no number of a library is used
_JSON = json.JSONDecoder(parse_int=float)


def builtin() -> tuple[Prompt, ...]:
    """Return the built-in library: eight prompts in each category, from easy to hard."""
    return read(_LIBRARY)


def read(path: Path) -> tuple[Prompt, ...]:
    """Read a prompt file, in its order: one to MOST prompts, each id once, no text empty.

    A name ending in `.txt` means one prompt a line, any other SimpleTuner's JSON library.

    Raises:
        SettingsError: The file cannot be read as that, or has no prompt; names file and line.
    """
    form = _lines if path.suffix.lower() == ".txt" else _library
    try:
        prompts = tuple(islice(form(path, textfiles.read(path, LARGEST)), MOST + 1))
    except RecursionError:
        raise refused("is nested too deeply for a prompt library", file=path) from None
    if not prompts:
        raise refused("has no prompt: add one, or name another file", file=path, line=1)
    if len(prompts) > MOST:
        raise refused(f"has more than {MOST} prompts: name a smaller file", file=path)
    return prompts


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _lines(path: Path, text: str) -> Iterator[Prompt]:
    """Yield the prompts of a text file; an id is made of the text it names and of nothing else."""
    seen: Counter[str] = Counter()
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if not line or line.startswith("#"):
            continue
        if wrong := problem(line) or _separated(line):
            raise refused(wrong, file=path, line=number)
        words = "-".join(re.findall("[a-z0-9]+", line.lower())[:6])[:40].strip("-") or "prompt"
        name = f"{words}-{hashlib.sha256(line.encode()).hexdigest()[:8]}"
        seen[name] += 1
        yield Prompt(name if seen[name] == 1 else f"{name}-{seen[name]}", line)


def _library(path: Path, text: str) -> Iterator[Prompt]:
    """Yield the prompts of SimpleTuner's form: {name: text} or {name: {"prompt": text, ...}}."""
    try:
        whole = _JSON.decode(text)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} (name a file of one prompt a line .txt)"
        raise refused(message, file=path, line=error.lineno) from None
    start = _skip(text, 0, " \t\n")
    if not isinstance(whole, dict):
        message = 'must be an object: {"name": "prompt", ...}'
        raise refused(message, file=path, line=_line(text, start))
    for name, at, entry, entry_at in _members(path, text, start):
        fields: dict[str, Any] = {"prompt": entry}
        if isinstance(entry, dict):
            fields = {member.key: member.value for member in _members(path, text, entry_at)}
        given = (fields.get(field) for field in ("prompt", "caption", "tags"))
        prompt = next((value for value in given if value is not None), None)
        category = fields.get("category")
        if not isinstance(prompt, str):
            message = 'must be a text, or an object with a text as "prompt", "caption" or "tags"'
            raise refused(message, file=path, line=_line(text, at), key=name)
        if not isinstance(category, str | None):
            message = '"category" must be a text'
            raise refused(message, file=path, line=_line(text, at), key=name)
        prompt, category = prompt.strip(), (category or "").strip()
        if wrong := problem(prompt) or problem(category):
            raise refused(wrong, file=path, line=_line(text, at), key=name)
        if name and prompt:  # SimpleTuner leaves out entries without a name, too
            yield Prompt(name, prompt, category)


class _Member(NamedTuple):
    """A member of a JSON object: its stripped key and its value, each with its offset."""

    key: str
    at: int
    value: Any
    value_at: int


def _members(path: Path, text: str, at: int) -> Iterator[_Member]:
    """Yield the members of the JSON object at `at` in a text that is known to be valid JSON."""
    first: dict[str, int] = {}
    at = _skip(text, at + 1, " \t\n")
    while text[at] != "}":
        key, end = _JSON.raw_decode(text, at)
        value_at = _skip(text, end, " \t\n:")
        value, end = _JSON.raw_decode(text, value_at)
        key = key.strip()
        if len(key) > LONGEST_NAME:
            message = f"has more than {LONGEST_NAME} characters: shorten this name"
            raise refused(message, file=path, line=_line(text, at), key=key)
        if not key.translate(_JOINERS).isprintable():
            message = f"the name {key!a} has a character that cannot be shown: remove it"
            raise refused(message, file=path, line=_line(text, at))
        if key in first:
            message = f"stands twice, first in line {_line(text, first[key])}: keep one"
            raise refused(message, file=path, line=_line(text, at), key=key)
        first[key] = at
        yield _Member(key, at, value, value_at)
        at = _skip(text, end, " \t\n,")


def _skip(text: str, at: int, characters: str) -> int:
    while text[at] in characters:
        at += 1
    return at


def _separated(line: str) -> str:
    """Say that a line holds what some editors take for the end of one; "" if it does not."""
    if found := re.search("[\u2028\u2029]", line):
        return f"has the line separator {found[0]!a}: begin a new line instead, or remove it"
    return ""
