"""What moves in a terminal under the lines: the view of the run, and a bar for what is in hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from clipwatch.kit.cells import cut
from clipwatch.kit.textfiles import printable
from clipwatch.results.painting import painted

UNHEARD = (OSError, SystemExit)
"""What a write that nobody reads raises; SystemExit is rich's answer to a broken pipe."""

SHARE = 0.02
"""The most of the time that goes into making the view: that grows with the checkpoints."""

HALF = 2
"""The view has the lower half of the terminal, the lines keep the other one."""

AROUND = 32
"""Cells of a bar and its times, beside what is done."""

Lines = Callable[[int, int], list[str]]
"""Given how many cells and how many lines there are, makes a view."""


BARS = 6
"""The most that are drawn; of a hundred runs many may be in hand."""


@dataclass(slots=True)
class Work:
    """Something in hand: what is done about it, since when, how far it is, and of which run."""

    doing: str
    since: float
    done: float
    total: float
    run: str = ""


class View:
    """Lines that are made anew each second, more rarely where that is much work.

    Args:
        make: Makes them.
        clock: Seconds since whenever.
    """

    def __init__(self, make: Lines, clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._lines: list[str] = []
        self._size = (0, 0)
        self._next = 0.0

    def lines(self, width: int, height: int) -> list[str]:
        """Return them, at once if the terminal has another size than before."""
        began = self._clock()
        if self._size != (width, height) or began >= self._next:
            self._size = (width, height)
            self._lines = self._make(width, height)
            now = self._clock()
            self._next = now + max(1.0, (now - began) / SHARE)
        return self._lines


class Drawing:
    """Below the lines of a terminal, from `start` to `stop`; used under the lock of its console.

    Args:
        console: Writes to a terminal.
    """

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._view: View | None = None
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,  # which may lead elsewhere
            redirect_stderr=False,
        )

    def show(self, make: Lines) -> None:
        """Have a view above the bars from here on."""
        self._view = View(make)

    @property
    def lasts(self) -> bool:
        """Whether there is something to draw though nothing is in hand."""
        return self._view is not None

    def bars(self, works: Mapping[str, Work]) -> None:
        """Have a bar for each work, the first ones if they are many."""
        drawn = dict(islice(works.items(), BARS))
        for gone in self._tasks.keys() - drawn.keys():
            self._bars.remove_task(self._tasks.pop(gone))
        for what, work in drawn.items():
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task("")
            # of an unknown total rich draws a bar that runs to and fro
            text = cut(printable(f"{what}: {work.doing}"), max(8, self._console.width - AROUND))
            task, total = self._tasks[what], work.total or None
            self._bars.update(task, description=text, completed=work.done, total=total)
        if self._live.is_started:
            with suppress(*UNHEARD):
                self._live.refresh()

    def start(self) -> None:
        """Begin to draw."""
        with suppress(*UNHEARD):
            self._live.start(refresh=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live.is_started:  # else rich adds an empty line
            with suppress(*UNHEARD):
                self._live.stop()

    def _drawn(self) -> RenderableType:
        if self._view is None:
            return self._bars
        width, height = self._console.size
        lines = self._view.lines(width, height // HALF)
        return Group(*map(painted, lines), *([self._bars] * bool(self._tasks)))
