"""JSON in the shapes that people keep prompts in, each entry with its line."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from clipwatch.domain.questions import Question
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import refused
from clipwatch.prompts import options, questions
from clipwatch.prompts.listing import Entry, check_name
from clipwatch.prompts.options import Option

_TEXTS = ("prompt", "caption", "tags", "text")  # the first three by SimpleTuner's rule
_LISTS = ("prompts", "annotations", "samples")
_BLANKS = " \t\n"
# what other programs let a prompt say of what nothing here has
_HOW = frozenset(("random_seed", "bbox_entities", "bbox_keyframes", "lyrics"))

_READ = (*_TEXTS, "category", "id", "adapter_strength", "enabled", *questions.KEYS)
_SLIP = 0.85  # likeness (difflib) from which a name looks misspelt
_MOST_STRENGTH = 10**9


class _Number(NamedTuple):
    """A whole number as written: int() refuses very long ones with an error of its own."""

    digits: str


_JSON = json.JSONDecoder(parse_int=_Number)


class _Text(NamedTuple):
    """A text of valid JSON; its first line is line `first` of the file."""

    file: Path
    text: str
    ends: list[int]
    first: int = 1

    def refused(
        self, message: str, at: int, key: str | None = None, *, fix: str = ""
    ) -> SettingsError:
        """Return the error to raise about what stands at `at`."""
        return refused(message, fix=fix, file=self.file, line=self.line(at), key=key)

    def line(self, at: int) -> int:
        """Return the number of the line that holds `at`."""
        return self.first + bisect_left(self.ends, at)

    def skip(self, at: int, characters: str) -> int:
        """Return the next place that holds none of these characters."""
        while self.text[at] in characters:
            at += 1
        return at


class _Member(NamedTuple):
    """A member of an object, or of a list without a key, with the offsets of key and value."""

    key: str
    at: int
    value: Any
    value_at: int


def entries(path: Path, text: str, column: str) -> Iterator[Entry]:
    """Yield the prompts of SimpleTuner's form {name: prompt}, a list, or {"prompts": list}.

    COCO's {"annotations": list} is one of the last, and so is {"samples": list} of OneTrainer and
    EveryDream2. A prompt is a text, or an object that has it as "prompt", "caption", "tags" or
    "text", or as `column` when that is given. In an object "adapter_strength" is SimpleTuner's,
    "enabled" OneTrainer's, and "vqa_list" and "skills" are GenEval 2's. A text in a list may have
    the options of sd-scripts behind it.

    Raises:
        SettingsError: It is no JSON, or of another shape.
    """
    whole = _decoded(path, text, 1, "name a file of one prompt a line .txt")
    document = _Text(path, text, [found.start() for found in re.finditer("\n", text)])
    at = document.skip(0, _BLANKS)
    listing = next((key for key in _LISTS if isinstance(whole, dict) and _is_list(whole, key)), "")
    if listing:
        at = next(it.value_at for it in _members(document, at) if it.key == listing)
        whole = whole[listing]
    if isinstance(whole, list):
        for item in _items(document, at):
            entry = _entry(document, item, column)
            if isinstance(item.value, str) and options.has_kohyas(item.value):
                said = options.of_kohya(item.value)
                entry = entry._replace(**said._asdict())
            yield entry
    elif isinstance(whole, dict):
        for member in _members(document, at):
            entry = _entry(document, member, column)
            # SimpleTuner leaves out entries without a name, too
            yield entry._replace(id=member.key, text=entry.text if member.key else "")
    else:
        message = 'must be a list of prompts, or an object: {"name": "prompt", ...}'
        raise document.refused(message, at)


def line_entries(path: Path, text: str, column: str) -> Iterator[Entry]:
    """Yield the prompts of JSON Lines: on each line what could stand in a list.

    Raises:
        SettingsError: A line is no JSON, or of another shape.
    """
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        written = line.strip(_BLANKS)
        if not written:
            yield Entry(path, number, "")
            continue
        value = _decoded(path, written, number)
        yield _entry(_Text(path, written, [], number), _Member("", 0, value, 0), column)


def _is_list(whole: dict[str, Any], key: str) -> bool:
    return isinstance(whole.get(key), list)


def _decoded(path: Path, text: str, first: int, fix: str = "") -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        line = first + error.lineno - 1
        raise refused(f"is not JSON: {error.msg}", fix=fix, file=path, line=line) from None


def _entry(document: _Text, member: _Member, column: str) -> Entry:
    key, at, value, value_at = member
    fields: dict[str, Any] = {} if column else {"prompt": value}
    inner: dict[str, Any] = {}
    if isinstance(value, dict):
        inner = {it.key: it.value for it in _members(document, value_at)}
        fields = {name.lower(): it for name, it in inner.items()} | inner
    wanted = (column, column.lower()) if column else _TEXTS
    prompt = next((fields[it] for it in wanted if fields.get(it) is not None), None)
    if not isinstance(prompt, str):
        names = " or ".join(f'"{name}"' for name in (wanted[:1] if column else _TEXTS))
        message = f"must be a text, or an object with a text as {names}"
        raise document.refused(message, at, key or None)
    category, given = fields.get("category"), fields.get("id")
    if not isinstance(category, str | None):
        raise document.refused('"category" must be a text', at, key or None)
    if not isinstance(given, str | _Number | None):
        raise document.refused('"id" must be a text or a whole number', at, key or None)
    name = given.digits if isinstance(given, _Number) else given or ""
    if not isinstance(value, dict):
        return Entry(document.file, document.line(at), prompt, name, category or "")
    asked, passed = _sampling(fields)
    return Entry(
        document.file,
        document.line(at),
        prompt,
        name,
        category or "",
        ignored=passed,
        strength=_strength(document, member, fields.get("adapter_strength")),
        off=fields.get("enabled") is False,
        slips=tuple(filter(None, map(_slip, inner))),
        options=asked,
        questions=_questions(document, member, inner),
    )


def _questions(document: _Text, member: _Member, inner: dict[str, Any]) -> tuple[Question, ...]:
    """Return what can be asked of its picture; () where nothing stands there."""
    try:
        return questions.read(*(_plain(inner.get(name)) for name in questions.KEYS))
    except ValueError as error:
        fix = 'write them as GenEval 2 does: [["How many cats are there?", "two"], ...]'
        raise document.refused(str(error), member.at, member.key or None, fix=fix) from None


def _plain(value: Any) -> Any:
    """Return a value of JSON with its whole numbers as texts."""
    if isinstance(value, _Number):
        return value.digits
    return [*map(_plain, value)] if isinstance(value, list) else value


def _sampling(fields: dict[str, Any]) -> tuple[tuple[Option, ...], tuple[str, ...]]:
    """Return how a prompt is to be sampled, and the names of what nothing follows."""
    members = {name: it for name, it in fields.items() if name.islower()}
    size = members.pop("size", None)  # EveryDream2's
    if isinstance(size, list) and len(size) == 2:  # noqa: PLR2004 - width and height
        members |= {"width": size[0], "height": size[1]}
    plain = {it: v.digits if isinstance(v, _Number) else v for it, v in members.items()}
    found = list(options.of_members(plain.items()))
    asked = tuple(it for it in found if isinstance(it, Option))
    passed = {it for it in found if isinstance(it, str)}
    if plain.get("random_seed"):  # OneTrainer's: then its seed is none
        asked = tuple(it for it in asked if it.name != "seed")
        passed.add("random_seed")
    return asked, tuple(sorted(passed | (_HOW & {it for it, value in plain.items() if value})))


@lru_cache(maxsize=1000)
def _slip(name: str) -> str:
    """Return what a name that is not read was probably meant to be, "" for any other."""
    if name.lower() in _READ:
        return ""
    near = get_close_matches(name.lower(), _READ, n=1, cutoff=_SLIP)
    return f"{name} is not read: did you mean {near[0]!r}?" if near else ""


def _strength(document: _Text, member: _Member, given: Any) -> float | None:
    """Return the strength of an adapter for this prompt alone; 0 is one."""
    written = given.digits if isinstance(given, _Number) else given
    try:
        strength = None if given is None or isinstance(given, bool) else float(written)
    except (TypeError, ValueError):
        strength = None
    if given is not None and (strength is None or not math.isfinite(strength)):
        message = '"adapter_strength" must be a number'
        raise document.refused(message, member.at, member.key or None)
    if strength is not None and abs(strength) > _MOST_STRENGTH:
        message = f'"adapter_strength" must be a number from -{_MOST_STRENGTH} to {_MOST_STRENGTH}'
        raise document.refused(message, member.at, member.key or None)
    return strength


def _items(document: _Text, at: int) -> Iterator[_Member]:
    """Yield the members of the list at `at`."""
    at = document.skip(at + 1, _BLANKS)
    while document.text[at] != "]":
        value, end = _JSON.raw_decode(document.text, at)
        yield _Member("", at, value, at)
        at = document.skip(end, _BLANKS + ",")


def _members(document: _Text, at: int) -> Iterator[_Member]:
    """Yield the members of the object at `at`."""
    text = document.text
    first: dict[str, int] = {}
    at = document.skip(at + 1, _BLANKS)
    while text[at] != "}":
        key, end = _JSON.raw_decode(text, at)
        value_at = document.skip(end, _BLANKS + ":")
        value, end = _JSON.raw_decode(text, value_at)
        key = key.strip()
        check_name(key, document.file, document.line(at))
        if key in first:
            message = f"stands twice, first in line {document.line(first[key])}"
            raise document.refused(message, at, key, fix="keep one")
        first[key] = at
        yield _Member(key, at, value, value_at)
        at = document.skip(end, _BLANKS + ",")
