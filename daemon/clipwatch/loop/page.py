"""The page of a run, kept by a process of its own: made anew after results, and never hurried."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Final

from clipwatch.kit.environment import environment
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.textfiles import printable
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import page_of
from clipwatch.settings import Settings

SHARE: Final = 0.1
"""The most of the time that goes into pages: one waits nine times as long as the last one took."""

LOOK_SECONDS: Final = 0.5
"""Pause between two looks whether it is made."""

PATIENCE_SECONDS: Final = 3600.0
"""How long one may take; that of 1,632 prompts and 20 checkpoints takes half a minute."""

COMMAND: Final = (sys.executable, "-P", "-m", "clipwatch", "report")

_NICENESS: Final = 19
_TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class _Making:
    """A process that makes the page, since `begun`, and what it says."""

    child: subprocess.Popen[bytes]
    said: IO[bytes]
    begun: float


class Page:
    """Has the page made by `clipwatch report`, one at a time; what fails is told once.

    Args:
        settings: Of the run, which say whether it has a page.
        log: Tells of which results.
        command: To which output, state directory and run are added.
    """

    def __init__(self, settings: Settings, log: RunLog, command: Sequence[str] = COMMAND) -> None:
        self._log = log
        self._command = command
        self._settings = settings
        self._making: _Making | None = None
        self._shown: object = None  # what the last page has
        self._next = 0.0  # by the clock that nobody sets
        self._problem = ""

    def adopt(self, settings: Settings) -> None:
        """Go by these settings from here on."""
        self._settings = settings

    @property
    def seconds_left(self) -> float:
        """How long until `offer` has something to do; infinity where it has not."""
        if self._making:
            return LOOK_SECONDS
        return max(0.0, self._next - time.monotonic()) if self._outdated else float("inf")

    def offer(self) -> None:
        """See whether the page is made, and have it made where there is news and it is time."""
        self._look()
        if not self._making and self._outdated and time.monotonic() >= self._next:
            self._begin()

    def last(self) -> bool:
        """Have the last page made at once; say whether there is nothing left to wait for."""
        self._look()
        if not self._making and self._outdated:
            self._begin()
        return not self._making

    def close(self) -> None:
        """Make it no more; the one before stays."""
        if self._making:
            self._making.child.kill()
            self._making.child.wait()
            self._making.said.close()
            self._making = None

    @property
    def _outdated(self) -> bool:
        """Whether there is something that the page has not."""
        if not self._settings.publishing.report or not self._log.begun:
            return False
        return any(self._log.run.scored.values()) and self._shown != self._there

    @property
    def _there(self) -> object:
        return self._log.run.scored, self._log.run.advice

    def _begin(self) -> None:
        """Start the process; where it fails, there is no other before the next news."""
        self._shown, state_dir = self._there, self._settings.paths.state_dir
        page, begun = page_of(state_dir, self._log.name), time.monotonic()
        names = ("-o", str(page), "--state-dir", str(state_dir), "--", self._log.name)
        said: IO[bytes] | None = None
        try:
            make_private(page.parent)
            said = TemporaryFile()  # noqa: SIM115 - closed when the process has ended
            child = subprocess.Popen(
                (*self._command, *names),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=environment(os.environ, 2),
                start_new_session=True,  # a terminal's Ctrl-C is the daemon's to handle
            )
        except OSError as error:
            if said:
                said.close()
            self._tell(str(error))
            return
        with suppress(OSError):  # it has ended, or a sandbox forbids it
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        self._making = _Making(child, said, begun)

    def _look(self) -> None:
        """Take note of a process that has ended, and end one that does not."""
        if (making := self._making) is None:
            return
        took, code = time.monotonic() - making.begun, making.child.poll()
        if code is None and took < PATIENCE_SECONDS:
            return
        making.said.seek(0)
        lines = making.said.read().decode(errors="replace").split("\n")
        self.close()
        self._next = time.monotonic() + took * (1 / SHARE - 1)
        last = next(filter(None, reversed(lines)), f"exit code {code}")
        if code is None:
            last = f"it was not made within {PATIENCE_SECONDS:g} s"
        self._tell("" if code == 0 else last.removeprefix("Error: "))

    def _tell(self, problem: str) -> None:
        """Say once why there is no new page, and that there is one again."""
        said = printable(problem)[:_TOLD]
        if said != self._problem:
            self._log.say(f"no new page: {said}" if said else "the page is made again")
        self._problem = said
