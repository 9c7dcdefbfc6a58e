"""What `clipwatch start` says: lines on stderr, and a progress bar where a person looks on."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Console:
    """Lines with a time; in a terminal a progress bar below them, else a line at each quarter."""

    def __init__(self) -> None:
        self._console = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._bar.add_task("", visible=False)
        self._quarter = 0

    def say(self, text: str) -> None:
        """Print one line; text is never taken as markup."""
        self._console.print(f"{datetime.now():%H:%M:%S} {text}", markup=False)  # noqa: DTZ005 - for a person here

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far an evaluation is; `done == total` ends the bar."""
        if self._console.is_terminal:
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
            self._bar.stop()
