"""What `clipwatch start` says: lines on stderr, and a progress bar where a person looks on."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

UNHEARD = (OSError, SystemExit)
"""What a write that nobody reads raises; SystemExit is rich's answer to a broken pipe."""


class Console:
    """Lines with a time; in a terminal a progress bar below them, else a line at each quarter.

    When nobody can read them any more (a closed terminal, a broken pipe) they are lost, no more.
    """

    def __init__(self) -> None:
        self._console = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._bar.add_task("", visible=False)
        self._quarter = 0

    def say(self, text: str) -> None:
        """Print one line; text is never taken as markup."""
        with suppress(*UNHEARD):
            self._console.print(f"{datetime.now():%H:%M:%S} {text}", markup=False)  # noqa: DTZ005 - for a person here

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far an evaluation is; `done == total` ends the bar."""
        if self._console.is_terminal:
            with suppress(*UNHEARD):
                self._bar.update(
                    self._task, description=what, completed=done, total=total, visible=done < total
                )
                if done < total:
                    self._bar.start()
                else:
                    self._bar.stop()
            return
        quarter = 4 * done // total
        if quarter not in (self._quarter, 4):
            self.say(f"{what}: {done} of {total} images")
        self._quarter = quarter

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar.live.is_started:  # else rich adds an empty line
            with suppress(*UNHEARD):
                self._bar.stop()
