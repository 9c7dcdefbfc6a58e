"""Numbers and tables as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

FEW: Final = "at least 6 are needed, better hundreds"
"""What is told where the statistics cannot tell anything."""


def number(value: float, digits: int) -> str:
    """Write a score or a difference; nothing is written as -0."""
    return f"{value:z.{digits}f}"


def digits(low: float, high: float, least: int) -> int:
    """Return with how many decimals an interval's width shows two digits; `least`, or 3 more."""
    width = high - low
    shown = 1 - math.floor(math.log10(width)) if width > 0 else least
    return min(least + 3, max(least, shown))


def interval(low: float, high: float, digits: int) -> str:
    """Write an interval."""
    return f"{number(low, digits)} to {number(high, digits)}"


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Return lines with their cells in columns, to the right but for those named in `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def plural(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}{'s' * (count != 1)}"


def few(prompts: int) -> bool:
    """Whether so few prompts can show no difference at all."""
    from clipwatch.statistics.flips import rank

    return rank(prompts) == 0


def not_alike(circumstances: Sequence[str]) -> list[str]:
    """Return a note on results that were not made in the same way, beside the protocol."""
    if not circumstances:
        return []
    told = "; ".join(circumstances)
    return ["", f"Not made alike: {told}. Small differences may come from that."]
