"""Which of many evaluations are left as they are, as others are surely better: a race in rounds."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipwatch.statistics.anytime import LEAST
from clipwatch.statistics.candidates import candidates
from clipwatch.statistics.flips import LEVEL
from clipwatch.statistics.scale import Scale

GROWTH: Final = 1.5
"""By how much more prompts each round has than the one before."""

SPENT: Final = LEVEL / 2
"""The chance that a race loses the best, in all its rounds together.

What is said of those that are left takes the other half (see `best.best_of`), so that both hold
in 95 % of cases.
"""


@dataclass(frozen=True, slots=True)
class Outdone:
    """One that is left as it is.

    Attributes:
        by: Who had the highest mean then.
        prompts: After so many.
        delta: Its mean over these less that one's, below 0.
    """

    by: str
    prompts: int
    delta: float


@dataclass(frozen=True, slots=True)
class Race:
    """How far a race is.

    Attributes:
        prompts: How many all who are left are to have next; in the end all.
        left: Who may still be the best.
        outdone: Who is surely not.
    """

    prompts: int
    left: tuple[str, ...]
    outdone: Mapping[str, Outdone]


def rounds(prompts: int) -> tuple[int, ...]:
    """Return after how many of the prompts it is looked who is left; not after all of them."""
    found = [LEAST]
    while found[-1] < prompts:
        found.append(int(found[-1] * GROWTH))
    return tuple(found[:-1])


def race(
    means: Mapping[str, Mapping[str, float]],
    order: Sequence[str],
    scale: Scale,
    coming: Container[str] = (),
) -> Race:
    """Say who is left of a race, and how far it goes next.

    All who are left have the same prompts, the first ones of an order that was fixed before. After
    each round those are left out of whom it is shown that others are better (`candidates`), by a
    test that may err in SPENT / rounds: so the best is lost in at most SPENT of races, however many
    take part (successive elimination, as of Even-Dar, Mannor and Mansour 2006, "Action elimination
    and stopping conditions", Journal of Machine Learning Research 7). It follows from the scores
    alone, so that who comes later, or comes back, changes nothing of how it is decided.

    Args:
        means: Who takes part → prompt → mean; prompts that are not whole are left out.
        order: All prompts.
        scale: Of the scores.
        coming: Who gets further scores: a round waits for them, and for nobody else.
    """
    left, outdone = list(means), dict[str, Outdone]()
    looks = rounds(len(order))
    for count in looks:
        first = order[:count]
        there = [it for it in left if all(prompt in means[it] for prompt in first)]
        if any(it in coming for it in left if it not in there):
            return Race(count, tuple(left), outdone)
        if len(there) > 1:
            table = np.array([[means[it][prompt] for it in there] for prompt in first])
            kept = candidates(table, scale, level=SPENT / len(looks))
            own = table.mean(axis=0)
            best = int(own.argmax())
            for place in sorted(set(range(len(there))) - set(kept)):
                delta = float(own[place] - own[best])
                outdone[there[place]] = Outdone(there[best], count, delta)
            left = [it for it in left if it not in outdone]
    return Race(len(order), tuple(left), outdone)
