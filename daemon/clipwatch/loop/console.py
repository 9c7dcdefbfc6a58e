"""What `clipwatch start` says: lines on stderr, and what is in hand where a person looks on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from clipwatch.kit.textfiles import printable

UNHEARD = (OSError, SystemExit)
"""What a write that nobody reads raises; SystemExit is rich's answer to a broken pipe."""

QUIET_SECONDS = 8.0
"""The longest silence over what is in hand; with TICK_SECONDS, and a busy machine, below ten."""

JOURNAL_SECONDS = 60.0
"""The same in systemd's journal, which keeps every line and which nobody waits at."""

TICK_SECONDS = 1.0
"""Pause between two looks at what is in hand; also what may last without being shown."""


@dataclass(slots=True)
class _Work:
    """Something in hand: what is done about it, since when, and how far it is."""

    doing: str
    since: float
    done: float
    total: float
    task: TaskID | None = None


class Console:
    """Lines with a time, and what is in hand: in a terminal bars that move, else a line at times.

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
        self._works: dict[str, _Work] = {}
        self._spoke = clock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._moves = moves(self._console)
        self._patience = JOURNAL_SECONDS if _is_journal(self._console.file) else QUIET_SECONDS
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,  # which may lead elsewhere
            redirect_stderr=False,
        )

    def say(self, text: str) -> None:
        """Print one line; text is never taken as markup."""
        with self._lock, suppress(*UNHEARD):
            self._spoke = self._clock()
            now = datetime.now()  # noqa: DTZ005 - for a person here
            self._console.print(f"{now:%H:%M:%S} {printable(text)}", markup=False)

    def working(self, what: str, doing: str, done: float = 0, total: float = 0) -> None:
        """Have something in hand until it is `rested`, or say what is done about it now.

        Args:
            what: Its name.
            doing: What is done about it, for a person.
            done: How much of `total` is done; only drawn, so `doing` says it as well.
            total: 0 where nobody knows.
        """
        with self._lock:
            work = self._works.setdefault(what, _Work(doing, self._clock(), done, total))
            work.doing, work.done, work.total = doing, done, total
            self._draw()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="console", daemon=True)
                self._thread.start()

    def rested(self, what: str) -> None:
        """Have it in hand no more; nothing happens if it is not."""
        with self._lock:
            work = self._works.pop(what, None)
            if work is not None and work.task is not None:
                self._bars.remove_task(work.task)
            if not self._works:
                self._stop()

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
            lasting = any(now - work.since >= TICK_SECONDS for work in self._works.values())
            if self._moves:
                if lasting:
                    with suppress(*UNHEARD):
                        self._bars.start()
            elif self._works and now - self._spoke >= self._patience:
                self.say("; ".join(_told(what, it, now) for what, it in self._works.items()))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._closed.set()
        with self._lock:
            self._stop()

    def _watch(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            self.tick()

    def _draw(self) -> None:
        if not self._moves:
            return
        for what, work in self._works.items():
            if work.task is None:
                work.task = self._bars.add_task("")
            with suppress(*UNHEARD):
                # of an unknown total rich draws a bar that runs to and fro
                self._bars.update(
                    work.task,
                    description=f"{what}: {work.doing}",
                    completed=work.done,
                    total=work.total or None,
                    refresh=True,
                )

    def _stop(self) -> None:
        if self._bars.live.is_started:  # else rich adds an empty line
            with suppress(*UNHEARD):
                self._bars.stop()


def moves(console: RichConsole) -> bool:
    """Whether what is drawn can move: in a terminal, but a pipe where FORCE_COLOR is set."""
    return console.file.isatty() and not console.is_dumb_terminal


def _told(what: str, work: _Work, now: float) -> str:
    return f"{what}: {work.doing} ({now - work.since:.0f} s)"


def _is_journal(file: IO[str]) -> bool:
    """Whether a file is systemd's journal, as $JOURNAL_STREAM (systemd.exec(5)) tells."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
