"""Prompts made by rules: things, attributes, counts, relations and styles, put together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from clipwatch.domain.protocol import Prompt
from clipwatch.prompts.listing import made_id

MOST = 5000
"""Prompts that the rules are asked for at most."""

_WORDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text())
_FRACTION = (math.sqrt(5) - 1) / 2  # steps of it fill a range evenly, however many are made


class _Rule(NamedTuple):
    """How the prompts of a category are made.

    Attributes:
        parts: Names of word lists. A list that is named again gives another word of itself.
        make: Puts one word of each list together.
    """

    category: str
    parts: str
    make: Callable[..., str]


def compositional(number: int) -> tuple[Prompt, ...]:
    """Return the first `number` prompts of one fixed sequence, 1 .. MOST.

    No text stands twice, and the categories take turns.
    """
    made = [_made(rule, math.ceil(number / len(_RULES))) for rule in _RULES]
    turns = (prompt for turn in zip(*made, strict=True) for prompt in turn)
    return tuple(prompt for prompt, _ in zip(turns, range(number), strict=False))


def a(words: str) -> str:
    """Put the article before words of the lists."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def one(noun: str) -> str:
    """Return the singular of "knife/knives"."""
    return noun.partition("/")[0]


def many(noun: str) -> str:
    """Return the plural of "knife/knives"."""
    return noun.partition("/")[2]


_RULES = (
    _Rule(
        "attribute",
        "colours materials things surfaces",
        lambda colour, stuff, it, where: f"{a(f'{colour} {stuff} {one(it)}')} {where}",
    ),
    _Rule(
        "binding",
        "colours things colours things",
        lambda c, it, d, other: f"{a(f'{c} {one(it)}')} and {a(f'{d} {one(other)}')}",
    ),
    _Rule(
        "counting",
        "counts colours things surfaces",
        lambda number, colour, it, where: f"{number} {colour} {many(it)} {where}",
    ),
    _Rule(
        "counting-two",
        "counts things counts animals",
        lambda n, it, m, other: f"{n} {many(it)} and {m} {many(other)}",
    ),
    _Rule(
        "relation",
        "colours things relations materials things",
        lambda c, it, is_, d, other: f"{a(f'{c} {one(it)}')} {is_} {a(f'{d} {one(other)}')}",
    ),
    _Rule(
        "relation-animal",
        "animals relations colours things places",
        lambda it, is_, c, other, where: f"{a(one(it))} {is_} {a(f'{c} {one(other)}')} {where}",
    ),
    _Rule(
        "action",
        "people deeds colours things places",
        lambda who, does, c, it, where: f"{a(who)} {does} {a(f'{c} {one(it)}')} {where}",
    ),
    _Rule(
        "action-animals",
        "animals chases animals places",
        lambda it, does, other, where: f"{a(one(it))} {does} {a(one(other))} {where}",
    ),
    _Rule(
        "style",
        "styles animals things",
        lambda style, it, other: f"{a(style)} of {a(one(it))} with {a(one(other))}",
    ),
    _Rule(
        "scene",
        "buildings lands hours weathers",
        lambda it, where, when, weather: f"{a(it)} {where} {when} {weather}",
    ),
    _Rule(
        "text",
        "signs written hands",
        lambda it, word, how: f'{a(it)} with "{word}" written on it {how}',
    ),
    _Rule(
        "three-things",
        "colours things colours things colours things surfaces",
        lambda c, it, d, other, e, third, where: (
            f"{a(f'{c} {one(it)}')}, {a(f'{d} {one(other)}')} and {a(f'{e} {one(third)}')} {where}"
        ),
    ),
)


def _size(parts: str) -> int:
    """Return how many ways there are to choose the words."""
    return math.prod(len(left) for left in _choices(parts, 0))


def _choices(parts: str, index: int) -> Iterator[list[str]]:
    """Yield the words that are open for each part when combination `index` is built."""
    taken: dict[str, list[str]] = {}
    for name in parts.split():
        left = [word for word in _WORDS[name] if word not in taken.get(name, [])]
        yield left
        taken.setdefault(name, []).append(left[index % len(left)])
        index //= len(left)


def _made(rule: _Rule, number: int) -> list[Prompt]:
    """Return the first `number` prompts of a rule.

    The combinations are numbered, and walked through in steps that share no factor with how many
    there are: none comes twice, and any first few are spread over all. Each rule starts elsewhere,
    or all would use the same words at the same time.
    """
    size = _size(rule.parts)
    step = next(it for it in range(int(size * _FRACTION), size) if math.gcd(it, size) == 1)
    start = int.from_bytes(hashlib.sha256(rule.category.encode()).digest()) % size
    prompts = []
    for index in range(number):
        place = (start + index * step) % size
        words = []
        for left in _choices(rule.parts, place):
            words.append(left[place % len(left)])
            place //= len(left)
        text = rule.make(*words)
        prompts.append(Prompt(made_id(text), text, rule.category))
    return prompts
