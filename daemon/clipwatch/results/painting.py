"""Colours for the lines of a listing, where a terminal has them and NO_COLOR does not forbid it."""

from __future__ import annotations

from typing import ClassVar

from rich.highlighter import RegexHighlighter
from rich.text import Text

_CELL = r"(?<=  )(?P<{}>{})(?=  |$)"


class _States(RegexHighlighter):
    """Knows the cells that tell a state, and the bars."""

    highlights: ClassVar[list[str]] = [
        _CELL.format("green", "published|scored"),
        _CELL.format("yellow", "evaluating"),
        _CELL.format("red", "failed"),
        _CELL.format("dim", "left out|waiting"),
        r"^(?P<red>failed)(?=: )",
        r"^(?P<bold>now|queue)(?=: )",
        r"(?P<cyan>[▁▂▃▄▅▆▇█]+)$",
        r"^(?P<dim>─+)$",
    ]


_states = _States()


def painted(line: str) -> Text:
    """Return a line with its colours; what is no state has none."""
    text = Text(line, no_wrap=True, overflow="crop")
    _states.highlight(text)
    return text
