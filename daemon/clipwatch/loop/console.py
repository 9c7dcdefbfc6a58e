"""What `clipwatch start` says: lines on stderr, and what is in hand where a person looks on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import IO

from rich.console import Console as RichConsole

from clipwatch.domain.events import Event
from clipwatch.kit.textfiles import printable
from clipwatch.loop.drawing import UNHEARD, Drawing, Lines, Work
from clipwatch.loop.narration import Named, checkpoint, narrate

QUIET_SECONDS = 8.0
"""The longest silence over what is in hand; with TICK_SECONDS, and a busy machine, below ten."""

JOURNAL_SECONDS = 60.0
"""The same in systemd's journal, which keeps every line and which nobody waits at."""

REMINDED = 5
"""The most of what is in hand that one line tells of."""

TICK_SECONDS = 1.0
"""Pause between two looks at what is in hand; also what may last without being shown."""


class Console:
    """Lines with a time, and what is in hand: in a terminal it moves below them, else is a line.

    Nothing is in hand for long without a word: a thread of its own sees to that, so it holds
    whatever the others wait for. When nobody can read the lines any more (a closed terminal, a
    broken pipe) they are lost, no more. All may be called from any thread.

    Args:
        to: Where it is said, stderr by default.
        clock: Seconds since whenever.
    """

    def __init__(
        self, to: RichConsole | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = to or RichConsole(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._clock = clock
        self._lock = threading.RLock()
        self._works: dict[str, Work] = {}
        self._spoke = clock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawing = Drawing(self._console) if moves(self._console) else None
        self.run: str | None = None
        """Whose console it is, once that is known."""
        self._patience = JOURNAL_SECONDS if _is_journal(self._console.file) else QUIET_SECONDS

    def say(self, text: str) -> None:
        """Print one line; text is never taken as markup."""
        self.say_of("", text)

    def say_of(self, run: str, text: str) -> None:
        """Print one line of one of several runs, or of none."""
        with self._lock, suppress(*UNHEARD):
            self._spoke = self._clock()
            now = datetime.now()  # noqa: DTZ005 - for a person here
            self._console.print(f"{now:%H:%M:%S} {printable(of_run(run, text))}", markup=False)

    def happened(self, event: Event, named: Named = checkpoint, *, once: bool = False) -> None:
        """Tell of what was written down; the rest as for `narrate`."""
        for line in narrate(event, named, once=once):
            self.say(line)

    def happened_of(self, run: str, event: Event, named: Named, *, once: bool) -> None:
        """Tell of what was written down of one of several runs."""
        for line in narrate(event, named, once=once):
            self.say_of(run, line)

    def show(self, view: Lines) -> None:
        """Have a view below the lines from here on, where there is a terminal."""
        with self._lock:
            if self._drawing is not None:
                self._drawing.show(view)
                self._begin()

    def working(
        self, what: str, doing: str, done: float = 0, total: float = 0, *, run: str = ""
    ) -> None:
        """Have something in hand until it is `rested`, or say what is done about it now.

        Args:
            what: Its name.
            doing: What is done about it, for a person.
            done: How much of `total` is done; only drawn, so `doing` says it as well.
            total: 0 where nobody knows.
            run: Of which it is, of several.
        """
        with self._lock:
            what = of_run(run, what)
            work = self._works.setdefault(what, Work(doing, self._clock(), done, total, run))
            work.doing, work.done, work.total = doing, done, total
            self._draw()
            self._begin()

    def rested(self, what: str, *, run: str = "") -> None:
        """Have it in hand no more; nothing happens if it is not."""
        with self._lock:
            if self._works.pop(of_run(run, what), None) is None:
                return
            self._draw()
            if self._drawing and not self._works and not self._drawing.lasts:
                self._drawing.stop()

    @property
    def doing(self) -> str:
        """What is in hand and cannot be counted: loading, publishing."""
        return self.doing_of("")

    def doing_of(self, run: str) -> str:
        """Return what is in hand of a run, of several, and cannot be counted."""
        with self._lock:
            works = [it for it in self._works.items() if it[1].run == run and not it[1].total]
        return "; ".join(f"{what.removeprefix(of_run(run, ''))}: {it.doing}" for what, it in works)

    def of(self, run: str) -> Voice:
        """Return what one of several runs has as its console."""
        return Voice(self, run)

    @contextmanager
    def during(self, what: str, doing: str) -> Iterator[None]:
        """Have something in hand inside."""
        self.working(what, doing)
        try:
            yield
        finally:
            self.rested(what)

    def tick(self) -> None:
        """Show what is in hand, if it is time for it; a thread calls it again and again."""
        with self._lock:
            if self._closed.is_set():  # since the thread last looked
                return
            now = self._clock()
            if self._drawing is not None:
                since = (work.since for work in self._works.values())
                if self._drawing.lasts or any(now - it >= TICK_SECONDS for it in since):
                    self._drawing.start()
            elif self._works and now - self._spoke >= self._patience:
                self._remind(now)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._closed.set()
        with self._lock:
            if self._drawing is not None:
                self._drawing.stop()

    def _remind(self, now: float) -> None:
        """Say what is in hand, as nothing was said for a while."""
        works = [told(what, it, now) for what, it in self._works.items()]
        more = [f"{len(works) - REMINDED} more in hand"] * (len(works) > REMINDED)
        self.say("; ".join((*works[:REMINDED], *more)))

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="console", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            self.tick()

    def _draw(self) -> None:
        if self._drawing is not None:
            self._drawing.bars(self._works)


class Voice(Console):
    """What one of several runs says at the console of all: its name stands before each line.

    Args:
        console: Of all.
        run: The run's name.
    """

    def __init__(self, console: Console, run: str) -> None:  # all that is drawn is the other's
        self.run = run
        self._to = console
        self._mine: set[str] = set()

    def say(self, text: str) -> None:
        """Print one line."""
        self._to.say_of(self._name, text)

    def happened(self, event: Event, named: Named = checkpoint, *, once: bool = False) -> None:
        """Tell of what was written down."""
        self._to.happened_of(self._name, event, named, once=once)

    def show(self, view: Lines) -> None:
        """Have no view: that of the console tells of all runs."""

    def working(
        self, what: str, doing: str, done: float = 0, total: float = 0, *, run: str = ""
    ) -> None:
        """Have something in hand."""
        self._mine.add(what)
        self._to.working(what, doing, done, total, run=run or self._name)

    def rested(self, what: str, *, run: str = "") -> None:
        """Have it in hand no more."""
        self._mine.discard(what)
        self._to.rested(what, run=run or self._name)

    @property
    def doing(self) -> str:
        """What is in hand of this run."""
        return self._to.doing_of(self._name)

    def close(self) -> None:
        """Have nothing in hand any more."""
        for what in tuple(self._mine):
            self.rested(what)

    @property
    def _name(self) -> str:
        return self.run or ""


def of_run(run: str, text: str) -> str:
    """Return a text with the run that it is of, of several; else as it is."""
    return f"{run}: {text}" if run else text


def moves(console: RichConsole) -> bool:
    """Whether what is drawn can move: in a terminal, but a pipe where FORCE_COLOR is set."""
    return console.file.isatty() and not console.is_dumb_terminal


def told(what: str, work: Work, now: float) -> str:
    """Return what is in hand, and for how long, in a line."""
    return f"{what}: {work.doing} ({now - work.since:.0f} s)"


def _is_journal(file: IO[str]) -> bool:
    """Whether a file is systemd's journal, as $JOURNAL_STREAM (systemd.exec(5)) tells."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
