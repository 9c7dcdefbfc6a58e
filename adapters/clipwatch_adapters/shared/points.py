"""What a server shows, number by number, where it knows nothing of our rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec.structs import replace

from clipwatch_adapters.shared.told import Row

Points = dict[tuple[str, int], list[float]]
"""(name, step) → the values that are shown there."""


def lacking(rows: Iterable[Row], points: Points) -> list[Row]:
    """Return the rows of which numbers lack, each with those alone."""
    return [
        replace(row, numbers=numbers)
        for row in rows
        if (
            numbers := {
                name: value
                for name, value in row.numbers.items()
                if not any(_same(value, it) for it in points.get((name, row.step), ()))
            }
        )
    ]


def _same(ours: float, theirs: float) -> bool:
    """Servers tell numbers as text, and do not say with how many digits."""
    return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
