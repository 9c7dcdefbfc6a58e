"""Which blends are tried, under which bound, and on which half of the prompts."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import partial
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.blends import FEWEST, Recipe, Search, families, near
from clipwatch.domain.protocol import Prompt
from clipwatch.tasks.blend import halves

ORDER = [f"checkpoint-{step}" for step in range(100, 1100, 100)]


def test_the_last_ones_and_those_around_the_best_are_tried_first() -> None:
    """Of three, in equal shares; then other numbers, and shares that fall with age."""
    means = {name: 0.3 - abs(number - 4) / 100 for number, name in enumerate(ORDER)}
    found = families(ORDER, means)
    assert [it.how for it in found[:3]] == ["the last 3", "3 around checkpoint-500", "the last 2"]
    assert dict(found[0].shares) == pytest.approx(dict.fromkeys(ORDER[-3:], 1 / 3), abs=1e-6)
    assert [it for it, _ in found[1].shares] == ORDER[3:6]  # which are the 3 best, too
    falling = next(it for it in found if it.how == "shares that fall by 0.5")
    shares = [share for _, share in falling.shares]
    assert shares == sorted(shares)
    assert shares[-1] / shares[-2] == pytest.approx(2, rel=1e-4)


@given(st.integers(2, 20), st.integers(0, 20), st.randoms(use_true_random=False))
def test_blends_are_averages_and_none_comes_twice(
    count: int, scored: int, chance: random.Random
) -> None:
    """Shares add up to 1, in the order of the training, of two checkpoints at least."""
    order = [f"c{number}" for number in range(count)]
    means = {name: chance.random() for name in order[:scored]}
    found = families(order, means)
    top = max(means, key=lambda it: means[it], default="")
    all_ = [found, list(near(order, found[0], found[-1], top))]
    for recipes in all_:
        assert len({it.shares for it in recipes}) == len(recipes)
        for it in recipes:
            names = [name for name, _ in it.shares]
            assert len(names) > 1
            assert names == sorted(names, key=order.index)
            assert sum(share for _, share in it.shares) == pytest.approx(1, abs=1e-5)
    assert found[0].shares not in {it.shares for it in all_[1]}


def scored(truth: float, prompt: int, recipe: Recipe) -> float:
    """Return a score: the truth, what the prompt is worth, and noise that is the blend's own."""
    noise = random.Random(f"{recipe.shares} {prompt}").gauss(0, 0.01)
    return truth + random.Random(prompt).gauss(0, 0.05) + noise


class Counted:
    """Measures blends by a rule, and counts as a log does: nothing twice."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts
        self.done: dict[object, int] = {}
        self.asked: list[tuple[Recipe, int]] = []

    def __call__(self, recipe: Recipe, count: int) -> list[float]:
        """Score."""
        assert 1 <= count <= self.prompts
        self.asked.append((recipe, count))
        self.done[recipe.shares] = max(count, self.done.get(recipe.shares, 0))
        truth = -sum((share - 0.25) ** 2 for _, share in recipe.shares)
        return [scored(truth, prompt, recipe) for prompt in range(count)]


@given(st.integers(2, 14), st.integers(6, 40), st.integers(FEWEST, 600))
def test_no_more_is_scored_than_was_allowed(count: int, prompts: int, budget: int) -> None:
    """Whatever the number of checkpoints, prompts and images; and what is told was scored."""
    order = ORDER[:count] if count <= len(ORDER) else [str(it) for it in range(count)]
    measure = Counted(prompts)
    search = Search(measure, prompts, budget)
    found = search.run(families(order, {}), partial(near, order, top=""))
    assert search.used == sum(measure.done.values()) <= budget
    assert measure.done[found.recipe.shares] == found.prompts
    assert found.mean == pytest.approx(fmean(measure(found.recipe, found.prompts)))


def test_the_best_wins_a_race_and_the_worse_half_leaves_each_round() -> None:
    """All that are in a round have the same prompts; the last two have the most."""
    field = [Recipe(str(it), ((str(it), 0.5), ("x", 0.5))) for it in range(8)]
    asked: list[tuple[int, int]] = []

    def measure(recipe: Recipe, count: int) -> list[float]:
        asked.append((int(recipe.how), count))
        return [scored(int(recipe.how) / 10, prompt, recipe) for prompt in range(count)]

    ranked = Search(measure, 64, 1000).race(field, 400)
    assert [it.how for it in ranked] == [str(it) for it in reversed(range(8))]
    counts = Counter(count for _, count in asked)
    assert sorted(counts.values(), reverse=True) == [8, 4, 2]
    assert {name for name, count in asked if count == max(counts)} == {6, 7}


def test_steps_around_the_best_blend_find_a_better_one() -> None:
    """The truth here is a share of a quarter each, which no simple average has."""
    order = ORDER[:6]
    measure = Counted(64)
    found = Search(measure, 64, 4000).run(families(order, {}), partial(near, order, top=""))
    assert re.search(", (more|less) of |^midway ", found.recipe.how)


@given(
    st.lists(st.sampled_from(["", "colour", "count"]), min_size=2, max_size=60),
    st.randoms(use_true_random=False),
)
def test_prompts_are_parted_by_what_they_are(kinds: list[str], chance: random.Random) -> None:
    """Each is in one half, of each category as many, whatever order the source has."""
    prompts = [Prompt(f"p{n}", f"text {n}", kind) for n, kind in enumerate(kinds)]
    one, other = halves(prompts)
    assert sorted(it.id for it in one + other) == sorted(it.id for it in prompts)
    counts = [Counter(it.category for it in half) for half in (one, other)]
    assert all(abs(counts[0][kind] - counts[1][kind]) <= 1 for kind in set(kinds))
    assert 0 <= len(one) - len(other) <= 1
    mixed = chance.sample(prompts, len(prompts))
    assert halves(mixed) == (one, other)
