"""What a prompt quotes, and how well that stands in what was read."""

from __future__ import annotations

import itertools
import random

import pytest

from clipwatch.models.quoted import quoted, unquoting, written


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ('a sign that says "OPEN"', ["OPEN"]),
        ('"Hello" above "World!"', ["Hello", "World!"]),
        ("a sign that says \u201cOPEN\u201d", ["OPEN"]),
        ("ein Schild, \u201eHalt\u201c steht darauf", ["Halt"]),
        ("une affiche \u00ab Bonjour \u00bb", [" Bonjour "]),
        ('\u5199\u7740"\u5f00\u653e"\u7684\u724c\u5b50', ["\u5f00\u653e"]),
        ("\u300c\u6771\u4eac\u300d\u306e\u770b\u677f", ["\u6771\u4eac"]),
        ("a cake with 'don't panic' on it", ["don't panic"]),
        ("a cake with \u2018don\u2019t panic\u2019 on it", ["don\u2019t panic"]),
        ("the dogs' and the cats' bowls", []),
        ("it's the dog's", []),
        ("it isn\u2019t the dog\u2019s", []),
        ('a 12" and a 14" pizza', []),
        ('a sign with "..." on it', []),
        ("a cat", []),
        ("", []),
    ],
)
def test_what_is_quoted(prompt: str, found: list[str]) -> None:
    """By straight and typographic marks; apostrophes, inches and dots are none."""
    assert quoted(prompt) == found


def test_what_has_no_letter_once_it_is_plain_is_no_text() -> None:
    """Unicode calls some marks letters that stand by themselves: there is nothing to compare."""
    assert quoted('a sign "\ufe70" and "\uff9e"') == []


def test_prompts_that_quote_nothing_are_told() -> None:
    """How many, and one of them."""
    assert unquoting(['a "b"', "'c'"]) == ""
    told = unquoting(['a "b"', "a cat", "a dog"])
    assert told == "2 of 3 prompts quote no text, 'a cat' for one"


@pytest.mark.parametrize(
    ("wanted", "read", "score"),
    [
        ("OPEN", "open", 1),
        ("\u4e1c\u4eac", "\u8fd9\u662f\u4e1c\u4eac\u5854", 1),
        ("\u4e1c\u4eac", "\u5317\u4eac", 0.5),
        ("OPEN", "\u6b22\u8fceopen", 1),
        ("OPEN", "opened", 0.5),
        ("OPEN", 'The sign says\n"OPEN".', 1),
        ("Don't panic!", "**DON'T** -- PANIC", 1),
        ("OPEN", "The sign says open today", 1),
        ("Grand  Opening", "GRAND\nOPENING 2026", 1),
        ("OPEN", "OPEM", 0.75),
        ("OPEN", "", 0),
        ("OPEN", "xyz", 0),
        ("no", "nothing", 0),
        ("\ufb01re", "fire", 1),
    ],
)
def test_how_well_it_stands_there(wanted: str, read: str, score: float) -> None:
    """By whole words that come nearest; capitals and spaces do not matter."""
    assert written(wanted, read) == pytest.approx(score)


def plain_distance(a: str, b: str) -> int:
    """Levenshtein's, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    same = plain_distance(a[1:], b[1:])
    if a[0] == b[0]:
        return same
    return 1 + min(same, plain_distance(a[1:], b), plain_distance(a, b[1:]))


def test_it_is_the_least_distance_to_any_run_of_words() -> None:
    """As found by trying each of them, for random texts."""
    luck = random.Random(0)
    for _ in range(60):
        wanted = luck.choice("ab") + "".join(luck.choices("ab ", k=luck.randrange(4)))
        wanted = " ".join(wanted.split())
        words = ["".join(luck.choices("abc", k=luck.randrange(1, 4))) for _ in range(3)]
        runs = [" ".join(words[a:b]) for a, b in itertools.combinations(range(4), 2)]
        least = min(len(wanted), *(plain_distance(wanted, it) for it in runs))
        assert written(wanted, " ".join(words)) == pytest.approx(1 - least / len(wanted))
