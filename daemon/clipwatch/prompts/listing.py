"""What every reader of prompts yields, and how it becomes a list that can be relied on."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from clipwatch.domain.protocol import Prompt
from clipwatch.domain.questions import Question
from clipwatch.kit.textfiles import plain, problem, refused
from clipwatch.prompts.options import Option

MOST = 100_000
"""Images of a checkpoint, and so entries of a source; more would never be finished."""

LONGEST_NAME = 200
"""Characters of a prompt's id; it becomes a tag in trackers."""

_LONG = 70  # of what CLIP makes one token each, or more; it reads 77, two of them its own marks
_PARTS = re.compile(r"[A-Za-z]+|[^\sA-Za-z]")
_SIDES = {"width", "height"}
# "(a word:1.3)" of sd-scripts and many others, "(a word)1.3" of compel
_WEIGHT = re.compile(r"\(([^()]*):\s*\d*\.?\d+\s*\)|\)\d*\.\d+")
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))  # of Persian and Indic words, and of emoji


_Said = tuple[str, float | None]
"""What an entry asks for: its text, and its strength."""


class Listed(NamedTuple):
    """Prompts in the order of their source, each id and text once; notes are a line each."""

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()


class Entry(NamedTuple):
    """What stands at one place of a source.

    Attributes:
        file, line: The place.
        text: The prompt as written.
        id: As given, "" to have one made of the text.
        category: As given, "" for none.
        ignored: Names of options beside the prompt that this place sets and nothing follows.
        strength: Of an adapter, for this prompt alone; None for that of all.
        off: Its source keeps it, and does not use it.
        slips: What is said of names beside the prompt that look misspelt.
        options: How this prompt is to be sampled.
        questions: What can be asked of its picture.
    """

    file: Path
    line: int
    text: str
    id: str = ""
    category: str = ""
    ignored: tuple[str, ...] = ()
    strength: float | None = None
    off: bool = False
    slips: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    questions: tuple[Question, ...] = ()


class Asked(NamedTuple):
    """An option that all prompts of a source share, and where the first of them has it."""

    option: Option
    file: Path
    line: int


class Sampling:
    """What prompts ask for, one after the other: what all of them share can be followed."""

    def __init__(self) -> None:
        self._prompts = 0
        self._first: dict[str, Asked] = {}
        self._times: Counter[str] = Counter()
        self._written: dict[str, Counter[str]] = {}
        self._other: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Take note of a prompt that is used."""
        self._prompts += 1
        self._other.update(dict.fromkeys(entry.ignored, 1))
        for option in entry.options:
            first = self._first.setdefault(option.name, Asked(option, entry.file, entry.line))
            self._times[option.name] += first.option.value == option.value
            self._written.setdefault(option.name, Counter())[option.written] += 1

    def shared(self) -> tuple[Asked, ...]:
        """Return what all prompts ask for alike; width and height only if both are."""
        differ = {name for name in self._first if self._times[name] < self._prompts}
        if differ & _SIDES:
            differ |= _SIDES
        return tuple(it for name, it in self._first.items() if name not in differ)

    def ignored(self) -> Counter[str]:
        """Return how often what is asked for here and there stands in the source, by its name."""
        shared = {it.option.name for it in self.shared()}
        found = Counter(self._other)
        for name, written in self._written.items():
            if name not in shared:
                found += written
        return found


def asked(entries: Iterable[Entry]) -> tuple[Asked, ...]:
    """Return the options that all prompts of a source share."""
    sampling = Sampling()
    for entry, _ in zip(entries, range(MOST), strict=False):
        if not entry.off and entry.text.strip():
            sampling.add(entry)
    return sampling.shared()


def listed(source: Path, entries: Iterable[Entry]) -> Listed:
    """Return the prompts of a source, and a note on each kind of entry that is left out.

    Empty entries are none, of a text that comes again at the same strength the first entry counts.
    An id that is not given is made of text and strength and of nothing else, so it survives every
    change of the order.

    Raises:
        SettingsError: An entry cannot be used, two prompts have one id, there is none at all or
            there are more than MOST entries.
    """
    kept: dict[_Said, Entry] = {}
    lines: dict[str, int] = {}
    sampling = Sampling()
    slips: dict[str, int] = {}
    empty, off, again = 0, 0, list[Entry]()
    for number, entry in enumerate(map(_checked, entries)):
        if number == MOST:
            message = f"has more than {MOST} entries"
            raise refused(message, fix="name a smaller file", file=source)
        said = entry.text, entry.strength
        if entry.off:
            off += 1
            continue
        for slip in entry.slips:
            slips.setdefault(slip, entry.line)
        if not entry.text:
            empty += 1
            continue
        sampling.add(entry)
        if said in kept:
            again.append(entry)
        else:
            kept[said] = entry
            if entry.id:
                _claim(lines, entry.id, entry)
    if not kept:
        raise refused("has no prompt", fix="add one, or name another file", file=source, line=1)
    made = _made([said for said, entry in kept.items() if not entry.id])
    for said, name in made.items():
        _claim(lines, name, kept[said])
    prompts = (
        Prompt(it.id or made[said], it.text, it.category, it.strength, it.questions)
        for said, it in kept.items()
    )
    notes = [plain(f"{source.name}:{line}: {slip}") for slip, line in slips.items()]
    told = _notes(source.name, empty, off, again, sampling.ignored())
    return Listed(tuple(prompts), (*told, *_weighted(source.name, kept.values()), *notes))


def long_note(prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """Say how many prompts CLIP will probably not read to the end; nothing if it reads all.

    An estimate: only the scorer's tokenizer knows. Every evaluation counts them exactly.
    """
    if many := sum(len(_PARTS.findall(prompt.text)) > _LONG for prompt in prompts):
        have = f"{count(many, 'prompt has', 'prompts have')} more than {_LONG} words and signs"
        return (f"{have} and will probably be cut by CLIP (77 tokens)",)
    return ()


def _weighted(source: str, entries: Iterable[Entry]) -> Iterator[str]:
    """Tell of weights, also in negative prompts, as sd-scripts' samples follow them."""
    if have := [it for it in entries if any(map(_is_weighted, _texts(it)))]:
        many = count(len(have), "prompt has", "prompts have")
        first = next(filter(_is_weighted, _texts(have[0])))
        yield plain(
            f"{source}: {many} weights like (word:1.3), which are read as they are written; the"
            f" first is in line {have[0].line}: {plain(first, 60)}"
        )


def _texts(entry: Entry) -> list[str]:
    negative = (str(it.value) for it in entry.options if it.name == "negative_prompt")
    return [entry.text, *negative]


def _is_weighted(text: str) -> bool:
    """Whether a weight stands in it; what is all digits before the colon is a time or a ratio."""
    found = (match[1] for match in _WEIGHT.finditer(text))
    return any(words is None or any(map(str.isalpha, words)) for words in found)


def count(number: int, one: str, many: str) -> str:
    """Return "1 prompt is" or "7 prompts are"."""
    return f"{number} {one if number == 1 else many}"


def check_name(name: str, file: Path, line: int) -> None:
    """Refuse a name that no tracker or terminal can show.

    Raises:
        SettingsError: It is too long, or has a character that cannot be seen.
    """
    if len(name) > LONGEST_NAME:
        message, fix = f"has more than {LONGEST_NAME} characters", "shorten this name"
        raise refused(message, fix=fix, file=file, line=line, key=name)
    if not name.translate(_JOINERS).isprintable():
        message = f"the name {name!a} has a character that cannot be shown"
        raise refused(message, fix="remove it", file=file, line=line)


def made_id(text: str, digits: int = 8) -> str:
    """Return the id of a text that has none: its first words, and a hash of all of it."""
    words = "-".join(re.findall("[a-z0-9]+", text.lower())[:6])[:40].strip("-") or "prompt"
    return f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:digits]}"


def _checked(entry: Entry) -> Entry:
    """Return the entry without blanks around its texts, once they are known to be usable."""
    text, category, name = entry.text.strip(), entry.category.strip(), entry.id.strip()
    check_name(name, entry.file, entry.line)
    if found := problem(text) or problem(category):
        wrong, fix = found
        raise refused(wrong, fix=fix, file=entry.file, line=entry.line, key=name or None)
    return entry._replace(text=text, category=category, id=name)


def _claim(lines: dict[str, int], name: str, entry: Entry) -> None:
    if name in lines:
        message, fix = f"stands twice, first in line {lines[name]}", "keep one, or rename it"
        raise refused(message, fix=fix, file=entry.file, line=entry.line, key=name)
    lines[name] = entry.line


def _made(written: list[_Said]) -> dict[_Said, str]:
    """Return an id for each text; short ones meet by chance where there are ten thousands."""
    short = {said: _named(said) for said in written}
    users = Counter(short.values())
    return {said: name if users[name] == 1 else _named(said, 32) for said, name in short.items()}


def _named(said: _Said, digits: int = 8) -> str:
    text, strength = said
    return made_id(text, digits) + ("" if strength is None else f"@{strength:g}")


def _notes(
    source: str, empty: int, off: int, again: list[Entry], ignored: Counter[str]
) -> Iterator[str]:
    if empty:
        yield plain(f"{source}: {count(empty, 'prompt is', 'prompts are')} empty and left out")
    if off:
        yield plain(f"{source}: {count(off, 'prompt is', 'prompts are')} disabled and left out")
    if again:
        repeat = count(len(again), "prompt repeats", "prompts repeat")
        yield plain(
            f"{source}: {repeat} an earlier one, which counts once; "
            f"the first is in line {again[0].line}: {plain(again[0].text, 60)}"
        )
    if ignored:
        names = ", ".join(f"{name} ({times}x)" for name, times in sorted(ignored.items()))
        yield plain(f"{source}: ignored, since all prompts are sampled in the same way: {names}")
