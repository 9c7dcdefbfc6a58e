"""Text by a terminal's cells: CJK and emoji take two, combining marks none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from rich.cells import cell_len

LEFT_OUT = "…"


def cut(text: str, width: int) -> str:
    """Return a text in `width` cells at most, of a longer one without its middle."""
    if cell_len(text) <= width:
        return text
    room = max(0, width - 1)
    head, tail = _first(text, room - room // 2), _last(text, room // 2)
    while head and cell_len(f"{head}{LEFT_OUT}{tail}") > width:  # a sign may widen its neighbour
        head = head[:-1]
    return f"{head}{LEFT_OUT}{tail}"[: None if width else 0]


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text with spaces up to `width` cells: behind it, or before it at the `right`."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def wrapped(text: str, width: int, hang: str = "  ") -> list[str]:
    """Return a text in lines of `width` cells, all but the first behind `hang`.

    Paths and addresses are to be copied, so what has a slash is never broken, however long.
    """
    lines, line = list[str](), ""
    for word in text.split():
        for piece in _pieces(word, max(2, width - len(hang))):
            longer = f"{line} {piece}" if line else piece
            if line and cell_len(longer) > width:
                lines.append(line)
                line = hang + piece
            else:
                line = longer
    return [*lines, line]


def _pieces(word: str, width: int) -> Iterator[str]:
    while "/" not in word and cell_len(word) > width:
        piece = _first(word, width) or word[:1]
        yield piece
        word = word[len(piece) :]
    if word:
        yield word


def _first(text: str, width: int) -> str:
    """Return as much of the beginning as fits."""
    sums = accumulate(map(cell_len, text))
    count = next((place for place, cells in enumerate(sums) if cells > width), len(text))
    while count and cell_len(text[:count]) > width:
        count -= 1
    return text[:count]


def _last(text: str, width: int) -> str:
    """Return as much of the end as fits."""
    sums = accumulate(map(cell_len, reversed(text)))
    count = next((place for place, cells in enumerate(sums) if cells > width), len(text))
    while count and cell_len(text[-count:]) > width:
        count -= 1
    return text[-count:] if count else ""
