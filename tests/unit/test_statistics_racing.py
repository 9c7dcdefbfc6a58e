"""Races in rounds: who is left, who is outdone, and for whom a round waits."""

from __future__ import annotations

import numpy as np
import pytest

from clipwatch.statistics.anytime import LEAST
from clipwatch.statistics.best import best_of
from clipwatch.statistics.racing import SPENT, race, rounds
from clipwatch.statistics.scale import COSINE

ORDER = [f"p{n:03}" for n in range(144)]


def drawn(prompts: int = len(ORDER), **means: float) -> dict[str, dict[str, float]]:
    """Return scores about these means that are alike by 0.8 from prompt to prompt."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.03, len(ORDER))
    found = {}
    for name, mean in means.items():
        scores = mean + common + rng.normal(0, 0.015, len(ORDER))
        found[name] = dict(zip(ORDER[:prompts], scores.tolist(), strict=False))
    return found


def part(means: dict[str, dict[str, float]], prompts: int, *names: str) -> None:
    """Take away from some all but the first prompts."""
    for name in names:
        means[name] = {prompt: means[name][prompt] for prompt in ORDER[:prompts]}


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (1, ()),
        (LEAST, ()),
        (LEAST + 1, (32,)),
        (48, (32,)),
        (144, (32, 48, 72, 108)),
        (1_632, (32, 48, 72, 108, 162, 243, 364, 546, 819, 1228)),
    ],
)
def test_rounds_grow_by_half(prompts: int, expected: tuple[int, ...]) -> None:
    """From 32 prompts on; nobody looks when all are made, as then all is said."""
    assert rounds(prompts) == expected


def test_who_is_far_behind_goes_first() -> None:
    """Each with the leader of its round; what cannot be told is left to the end."""
    means = drawn(far=0.2, near=0.295, best=0.3, same=0.2999)
    found = race(means, ORDER, COSINE)
    assert found.left == ("best", "same")
    assert found.prompts == len(ORDER)
    assert found.outdone["far"].prompts == LEAST < found.outdone["near"].prompts
    for name, expected in (("far", -0.1), ("near", -0.005)):
        assert found.outdone[name].by in ("best", "same")
        assert found.outdone[name].delta == pytest.approx(expected, abs=0.006)


def test_what_comes_after_a_round_changes_nothing_of_it() -> None:
    """Whoever is outdone needs no further score, and whoever has more is no better for it."""
    means = drawn(far=0.2, near=0.295, best=0.3, same=0.2999)
    whole = race(means, ORDER, COSINE)
    for name, found in whole.outdone.items():
        part(means, found.prompts, name)
    assert race(means, ORDER, COSINE) == whole


def test_a_round_waits_for_who_is_left() -> None:
    """And for nobody else: neither who is outdone, nor who gets no further scores."""
    means = drawn(far=0.2, near=0.295, best=0.3, same=0.2999)
    part(means, 20, "same")
    found = race(means, ORDER, COSINE, coming={"same"})
    assert (found.prompts, len(found.left), found.outdone) == (LEAST, 4, {})
    part(means, LEAST, "far", "near", "best")
    found = race(means, ORDER, COSINE, coming=set(means) - {"same"})  # which has failed
    assert (found.prompts, set(found.outdone)) == (48, {"far"})
    assert "same" in found.left
    assert race({}, ORDER, COSINE).left == ()


def test_who_comes_later_begins_at_the_first_round() -> None:
    """The others wait for it where they are, and are told from it by the prompts of that round."""
    means = drawn(second=0.3, best=0.34)
    alone = race({"second": means["second"]}, ORDER, COSINE)
    assert (alone.left, alone.outdone) == (("second",), {})
    found = race({**means, "best": {}}, ORDER, COSINE, coming={"best"})
    assert (found.prompts, found.outdone) == (LEAST, {})
    assert race(means, ORDER, COSINE).outdone["second"].prompts == LEAST


def test_equal_ones_are_left() -> None:
    """The same scores tell nothing, nor do a few prompts, however they differ."""
    same = drawn(one=0.3)["one"]
    assert race({"a": same, "b": dict(same), "c": dict(same)}, ORDER, COSINE).outdone == {}
    few = ORDER[:LEAST]
    assert race(drawn(a=0.1, b=0.9), few, COSINE).left == ("a", "b")


def test_what_a_race_has_spent_is_taken_off() -> None:
    """The intervals of who is left are wider, and more of them may be the best."""
    scores = drawn(a=0.298, b=0.3, c=0.297)
    tables = {
        name: {prompt: [score] for prompt, score in its.items()} for name, its in scores.items()
    }
    plain, less = best_of(tables, COSINE), best_of(tables, COSINE, spent=SPENT)
    assert plain.best == less.best
    assert set(plain.candidates) <= set(less.candidates)
    for name, (delta, low, high) in plain.differences.items():
        wide = less.differences[name]
        assert wide[0] == delta
        assert wide[1] < low < high < wide[2]
