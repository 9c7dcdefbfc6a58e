"""What `clipwatch start --log-format json` says: one JSON object a line on stdout, for machines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console as RichConsole

from clipwatch.domain.events import Event
from clipwatch.domain.written import encode
from clipwatch.loop.console import Console, of_run, told
from clipwatch.loop.drawing import UNHEARD
from clipwatch.loop.narration import Named, checkpoint, narrate, story

SAID, WORKING = "Said", "Working"
"""Kinds of lines that are no event of the log: a remark, and what is in hand all the while."""


class ObjectConsole(Console):
    """A console whose every line is an object: time, run, event, fields, text.

    Args:
        file: Takes the lines, stdout by default; each is flushed.
        clock: Seconds since whenever.
        now: The time, in UTC.
    """

    def __init__(
        self,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        # a file of its own: what a closed pipe did not take is not tried once more at the end
        self._file = file or os.fdopen(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
        super().__init__(RichConsole(file=self._file), clock)
        self._drawing = None  # a terminal gets the lines, too
        self._now = now

    def say_of(self, run: str, text: str) -> None:
        """Print a remark."""
        self._write(SAID, {}, text, run)

    def happened(self, event: Event, named: Named = checkpoint, *, once: bool = False) -> None:
        """Print an event, of every kind, with the fields that the log has."""
        self.happened_of("", event, named, once=once)

    def happened_of(self, run: str, event: Event, named: Named, *, once: bool) -> None:
        """Print an event of one of several runs."""
        kind, data = encode(event)
        text = "; ".join(narrate(event, named, once=once)) or story(event, named)
        self._write(kind, json.loads(data), text, run)

    def _remind(self, now: float) -> None:
        for name, work in self._works.items():
            what = name.removeprefix(of_run(work.run, ""))
            fields = {
                "what": what,
                "doing": work.doing,
                "done": work.done,
                "total": work.total,
                "seconds": round(now - work.since),
            }
            self._write(WORKING, fields, told(what, work, now), work.run)

    def _write(self, event: str, fields: dict[str, Any], text: str, run: str) -> None:
        head = {"time": self._now().isoformat(), "run": run or self.run, "event": event}
        line = json.dumps({**head, "fields": fields, "text": text})
        with self._lock, suppress(*UNHEARD):
            self._spoke = self._clock()
            self._file.write(f"{line}\n")
            self._file.flush()
