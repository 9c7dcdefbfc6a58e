"""Which averages of saved checkpoints are tried, and how few prompts each of them gets. Pure.

The late checkpoints of a training lie around a place that none of them is at. Their average is
nearer to it: of the last few in equal shares (LAWA, arXiv 2209.14981; model soups, 2203.05482),
with shares that fall with age, or by a search for shares, which may be negative (LCSC, 2404.02241).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

Shares = tuple[tuple[str, float], ...]
"""Checkpoint → its share, in the order of the training; they add up to 1."""

COUNTS: Final = (3, 2, 5, 8, 13)
"""How many checkpoints have equal shares, what is tried first first."""

DECAYS: Final = (0.7, 0.5, 0.85)
"""By how much the share falls from a checkpoint to the one before it."""

LEAST_SHARE: Final = 0.01
"""A smaller one is left out."""

STEP: Final = 0.25
"""How far a share is moved to look for better ones."""

MOVED: Final = 4
"""The shares that are moved, the largest first."""

PASSES: Final = 2
"""How often the best blend's shares are moved."""

FEWEST: Final = 6
"""Prompts of a first round: fewer tell nothing."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A blend that can be made; `how` says it to a person, and tells no two apart."""

    how: str
    shares: Shares


@dataclass(frozen=True, slots=True)
class Found:
    """What a search ended with.

    Attributes:
        recipe: The best.
        prompts: On how many of those that were searched on it was scored.
        mean: Of its scores on these.
    """

    recipe: Recipe
    prompts: int
    mean: float


Measure = Callable[[Recipe, int], Sequence[float]]
"""Returns a blend's means of the first so many searched prompts."""


def families(order: Sequence[str], means: Mapping[str, float]) -> list[Recipe]:
    """Return simple averages, what is to be tried first first, none of them twice.

    Args:
        order: The checkpoints in the order of the training, two at least.
        means: What those have on the searched prompts that were scored there.
    """
    found: dict[Shares, Recipe] = {}

    def add(how: str, shares: Mapping[str, float]) -> None:
        whole = _whole(order, shares)
        if len(whole) > 1:
            found.setdefault(whole, Recipe(how, whole))

    best = sorted(means, key=lambda it: -means[it])
    for count in (it for it in COUNTS if it <= len(order)):
        add(f"the last {count}", dict.fromkeys(order[-count:], 1.0))
        if best and count % 2:
            middle = order.index(best[0])
            begin = min(max(0, middle - count // 2), len(order) - count)
            add(f"{count} around {best[0]}", dict.fromkeys(order[begin : begin + count], 1.0))
        if count <= len(best):
            add(f"the {count} best", dict.fromkeys(best[:count], 1.0))
    for decay in DECAYS:
        ages = {name: decay**age for age, name in enumerate(reversed(order))}
        add(f"shares that fall by {decay:g}", ages)
    return list(found.values())


def near(order: Sequence[str], best: Recipe, second: Recipe, top: str) -> Iterator[Recipe]:
    """Yield blends around the best one, each with a share moved a step up or down.

    Args:
        order: As in `families`.
        best: Whose shares are moved.
        second: The next best, which is tried half and half with it.
        top: The single checkpoint that is best on the searched prompts, "" for none.
    """
    shares, seen = dict(best.shares), {best.shares}
    largest = sorted(shares, key=lambda it: -abs(shares[it]))[:MOVED]
    ways = [
        *((name, +STEP) for name in dict.fromkeys((top, *largest)) if name),
        *((name, -STEP) for name in largest),
    ]
    half = {it: share / 2 for it, share in second.shares}
    both = {name: shares.get(name, 0.0) / 2 + half.get(name, 0.0) for name in order}
    moved = [(f"midway between {best.how} and {second.how}", both)]
    for name, step in ways:
        other = {it: share * (1 - step) for it, share in shares.items()}
        other[name] = other.get(name, 0.0) + step
        moved.append((f"{best.how}, {'more' if step > 0 else 'less'} of {name}", other))
    for how, other in moved:
        whole = _whole(order, other)
        if len(whole) > 1 and whole not in seen:
            seen.add(whole)
            yield Recipe(how, whole)


class Search:
    """A search under a bound of prompts, each of which is as many images as the protocol says.

    Args:
        measure: Scores a blend; what it scored before costs nothing.
        prompts: How many there are to search on.
        budget: How many may be scored, over all blends.
    """

    def __init__(self, measure: Measure, prompts: int, budget: int) -> None:
        self._measure, self._prompts, self._left = measure, prompts, budget
        self._seen: dict[Shares, int] = {}

    @property
    def used(self) -> int:
        """How many prompts were scored."""
        return sum(self._seen.values())

    def run(self, first: Sequence[Recipe], around: Callable[..., Iterator[Recipe]]) -> Found:
        """Search; return the best blend.

        Args:
            first: What is tried first, one at least.
            around: Returns what is to be tried next, by the best two.
        """
        ranked = self.race(first, self._left // 2)
        for number in range(PASSES):
            field = [ranked[0], *around(ranked[0], ranked[min(1, len(ranked) - 1)])]
            ranked = self.race(field, self._left // (PASSES - number))
        prompts = self._seen[ranked[0].shares]
        return Found(ranked[0], prompts, fmean(self._measure(ranked[0], prompts)))

    def race(self, field: Sequence[Recipe], budget: int) -> list[Recipe]:
        """Return blends, the best first: in each round the worse half leaves (successive halving).

        All that are in a round have the same prompts, so that they differ by the blend alone. Of
        too many for so few prompts the last ones are not tried.
        """
        while len(field) > 1 and budget // _rounds(len(field)) // len(field) < FEWEST:
            field = field[:-1]
        there, gone, prompts = list(field), list[Recipe](), 0
        for number in range(_rounds(len(field)), 0, -1):
            prompts = min(self._prompts, prompts + max(1, budget // number // len(there)))
            budget -= sum(self._cost(it, prompts) for it in there)
            means = {it.shares: fmean(self._scored(it, prompts)) for it in there}
            there.sort(key=lambda it: -means[it.shares])
            kept = -(-len(there) // 2)
            there, gone = there[:kept], there[kept:] + gone
        return there + gone

    def _cost(self, recipe: Recipe, prompts: int) -> int:
        return max(0, prompts - self._seen.get(recipe.shares, 0))

    def _scored(self, recipe: Recipe, prompts: int) -> Sequence[float]:
        cost = self._cost(recipe, prompts)
        self._left -= cost
        self._seen[recipe.shares] = self._seen.get(recipe.shares, 0) + cost
        return self._measure(recipe, prompts)


def _rounds(count: int) -> int:
    return max(1, math.ceil(math.log2(count)))


def _whole(order: Sequence[str], shares: Mapping[str, float]) -> Shares:
    """Return shares that add up to 1, without those that are hardly any."""
    total = math.fsum(shares.values())
    kept = {it: share for it, share in shares.items() if abs(share / total) >= LEAST_SHARE}
    total = math.fsum(kept.values())
    return tuple((it, round(kept[it] / total, 6)) for it in order if it in kept)
