"""Which two images a voter sees next: pure, spread over checkpoints and prompts, sides by lot."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from clipwatch.domain.votes import Voted
from clipwatch.domain.voting import Image, Pair, next_pair

PROMPTS = 6
NAMES = ("one", "two", "three", "four")
ALL: dict[str, frozenset[Image]] = {
    name: frozenset((f"p{n}", index) for n in range(PROMPTS) for index in range(2))
    for name in NAMES
}


def asked(count: int, seed: str = "run") -> list[Pair]:
    """Return what is asked of somebody who answers so often."""
    votes: list[Voted] = []
    found: list[Pair] = []
    while len(found) < count:
        pair = next_pair(ALL, votes, "follows", seed)
        assert pair
        found.append(pair)
        votes.append(pair.voted("left"))
    return found


def test_the_same_votes_ask_the_same() -> None:
    """Another seed draws other lots, and has other names for what it asks."""
    assert asked(30) == asked(30)
    assert asked(30) != asked(30, "other")
    assert not {it.id for it in asked(30)} & {it.id for it in asked(30, "other")}


def test_votes_are_spread() -> None:
    """Over pairs of checkpoints, and for each pair over prompts before their further images."""
    found = asked(6 * PROMPTS)
    met = Counter(frozenset((it.left, it.right)) for it in found)
    assert met == {frozenset(two): PROMPTS for two in combinations(NAMES, 2)}
    on = Counter((frozenset((it.left, it.right)), it.prompt_id) for it in found)
    assert set(on.values()) == {1}
    first = Counter(it.prompt_id for it in found[:PROMPTS])
    assert set(first.values()) == {1}
    shown = Counter(name for it in found[:2] for name in (it.left, it.right))
    assert set(shown.values()) == {1}


def test_sides_are_drawn() -> None:
    """Nobody stands always on the left."""
    found = asked(12 * PROMPTS)
    left = Counter(it.left for it in found)
    assert all(10 <= left[name] <= 26 for name in NAMES)  # 18 of 36 each, in the mean


def test_all_is_asked_once_and_then_nothing() -> None:
    """Every image of every pair."""
    found = asked(6 * PROMPTS * 2)
    assert len({(frozenset((it.left, it.right)), it.prompt_id, it.index) for it in found}) == 72
    assert len({it.id for it in found}) == 72
    votes = [it.voted("neither") for it in found]
    assert next_pair(ALL, votes, "follows", "run") is None
    other = next_pair(ALL, votes, "better", "run")
    assert other
    assert other.question == "better"


def test_only_images_that_both_have_are_asked() -> None:
    """What was not kept of one is nobody's; a single one is no pair."""
    images = {"one": ALL["one"], "two": frozenset({("p3", 1)}), "three": frozenset[Image]()}
    pair = next_pair(images, [], "follows", "run")
    assert pair
    assert (pair.prompt_id, pair.index, {pair.left, pair.right}) == ("p3", 1, {"one", "two"})
    assert next_pair(images, [pair.voted("right")], "follows", "run") is None
    assert next_pair({"one": ALL["one"]}, [], "follows", "run") is None
