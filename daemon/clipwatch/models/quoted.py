"""Text that a prompt quotes, and how well it stands in what was read from a picture."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_LETTERS: Final = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_UNSPACED: Final = re.compile(f"[{_LETTERS}]")
"""Letters of scripts that write without spaces (Thai, Lao, kana, Chinese): each is a word."""

_INNER: Final = r"(?:[^{0}]|(?<=\w){0}(?=\w))+"
_PAIRS: Final = (
    rf'(?<![^\W{_LETTERS}])"([^"]+)"(?![^\W{_LETTERS}])',
    "[\u201c\u201d\u201e]([^\u201c\u201d]+)[\u201c\u201d]",
    "\u00ab([^\u00bb]+)\u00bb",
    "[\u300c\u300e]([^\u300d\u300f]+)[\u300d\u300f]",
    rf"(?<!\w)'({_INNER.format(chr(39))})'(?!\w)",
    "(?<!\\w)\u2018(" + _INNER.format("\u2019") + ")\u2019(?!\\w)",
)
"""Straight and typographic quotation marks; an apostrophe within a word is none, nor is a mark
behind a digit (inches and feet)."""

_QUOTES: Final = re.compile("|".join(_PAIRS))

_EDGES: Final = re.compile(r"^[\W_]+|[\W_]+$")
"""Of a word, what is neither letter nor digit."""


def quoted(prompt: str) -> list[str]:
    """Return the texts that a prompt quotes, in their order; those without a letter or digit not.

    A storefront with the sign "OPEN" quotes OPEN.
    """
    found = (next(filter(None, it.groups())) for it in _QUOTES.finditer(prompt))
    return [*filter(_plain, found)]


def unquoting(prompts: Sequence[str]) -> str:
    """Say which of these prompts quote nothing, so that there is no text to look for; "" if all do.

    Returns:
        "3 of 4 prompts quote no text, 'a cat' for one".
    """
    without = [it for it in prompts if not quoted(it)]
    if not without:
        return ""
    return f"{len(without)} of {len(prompts)} prompts quote no text, {without[0][:40]!r} for one"


def written(wanted: str, read: str) -> float:
    """Return how well a text stands in what was read, 0..1.

    1 less the letters that have to be added, taken away or changed, over the length of the text, to
    make it of the words of what was read that come nearest: a run of them, or none. Capitals do not
    matter, nor do line breaks, the kind of spaces, or what stands around words: commas, marks.
    """
    wanted, read = _plain(wanted), _plain(read)
    least = _distance(wanted, read)
    return 1 - least / len(wanted)


def _plain(text: str) -> str:
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(filter(None, (_EDGES.sub("", it) for it in words)))


def _distance(wanted: str, read: str) -> int:
    """Return the least number of changes that make `wanted` of a run of words of `read`."""
    around = {at for it in _UNSPACED.finditer(read) for at in it.span()}
    spaces = {at for at, letter in enumerate(read) if letter == " "}
    begins, ends = around | {at + 1 for at in spaces}, around | spaces | {len(read)}
    row = [0]  # of no letter that is wanted: a run begins with any word
    for at in range(1, len(read) + 1):
        row.append(0 if at in begins else row[-1] + 1)
    for count, letter in enumerate(wanted, 1):
        before, row = row, [count]
        for at, other in enumerate(read, 1):
            changed = before[at - 1] + (letter != other)
            row.append(min(changed, before[at] + 1, row[-1] + 1))
    return min(len(wanted), *(row[at] for at in ends))
