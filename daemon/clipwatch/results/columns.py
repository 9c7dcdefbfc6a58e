"""Columns of text beside each other in so many cells, the least important left out first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from clipwatch.kit.cells import cut, padded

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A head and what stands below it.

    Attributes:
        head, texts: From above to below.
        goes: The highest goes first where the width does not do; 0 never goes.
        right: Its texts stand at the right, as numbers do.
        least: To so many cells its texts may be cut; 0 for no cut.
    """

    head: str
    texts: Sequence[str]
    goes: int = 0
    right: bool = True
    least: int = 0

    @property
    def width(self) -> int:
        """The cells that it takes uncut."""
        return max(map(cell_len, (self.head, *self.texts)))

    @property
    def narrowest(self) -> int:
        """The cells that it needs."""
        return min(self.width, self.least) if self.least else self.width


def lay_out(columns: Sequence[Column], width: int) -> list[str]:
    """Return the head, a rule and the lines, none longer than `width` cells."""
    kept = list(columns)
    while _sum([it.narrowest for it in kept]) > width and any(it.goes for it in kept):
        kept.remove(max(kept, key=lambda it: it.goes))
    widths = [it.width for it in kept]
    for place, column in enumerate(kept):
        over = _sum(widths) - width
        if over > 0 and column.least:
            widths[place] = max(column.narrowest, widths[place] - over)
    lines = [
        cut(GAP.join(map(_cell, kept, texts, widths)).rstrip(), width)
        for texts in zip(*((it.head, *it.texts) for it in kept), strict=True)
    ]
    return [lines[0], "─" * min(_sum(widths), width), *lines[1:]]


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _cell(column: Column, text: str, width: int) -> str:
    return padded(cut(text, width), width, right=column.right)
