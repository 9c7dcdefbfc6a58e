"""Of two scores that are wanted high, which pairs no other one beats in both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def front(points: Mapping[Key, tuple[float, float]]) -> list[Key]:
    """Return those that no other one dominates (Pareto), in the order of their first score.

    One dominates another that is at least as high in both scores, and higher in one. Of equal ones
    all stay.
    """
    found: list[Key] = []
    highest: tuple[float, float] | None = None
    for key in sorted(points, key=lambda it: points[it], reverse=True):
        # those before are no lower in the first score
        if highest is None or points[key][1] > highest[1] or points[key] == highest:
            found.append(key)
            highest = points[key]
    return found[::-1]
