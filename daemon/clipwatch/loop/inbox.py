"""What is sent to the loop's thread, from any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from clipwatch.loop.deliveries import Delivered
from clipwatch.loop.judgements import Judged
from clipwatch.loop.preparing import Prepared
from clipwatch.loop.slots import Heard
from clipwatch.loop.tables import Tabled
from clipwatch.staging import Staged


class Look:
    """Message: something may have changed in the output directory."""


class Stop:
    """Message to all: end as soon as nothing is lost by it."""


class Reload:
    """Message to all: read the settings again."""


class Turn:
    """Message to all: a slot is waited for, or free again."""


@dataclass(frozen=True, slots=True)
class Do:
    """Message to the loop itself: do something in its thread."""

    act: Callable[[], None]


Message = Look | Prepared | Staged | Heard | Judged | Delivered | Tabled
"""What belongs to one run."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message and the run that it belongs to, "" for all of them."""

    run: str
    message: Message | Stop | Reload | Turn | Do


class Inbox:
    """The letters that came, in their order."""

    def __init__(self) -> None:
        self._letters: SimpleQueue[Letter] = SimpleQueue()

    def put(self, message: Stop | Reload | Turn | Do) -> None:
        """Send a message to all runs; also from a signal handler."""
        self._letters.put(Letter("", message))

    def of(self, run: str) -> Callable[[Message], None]:
        """Return what takes the messages of one run."""
        return lambda message: self._letters.put(Letter(run, message))

    def receive(self, seconds: float) -> list[Letter]:
        """Return all that is there; if there is nothing, wait for it so long at most."""
        letters: list[Letter] = []
        with suppress(Empty):
            letters.append(self._letters.get(timeout=seconds))
        while not self._letters.empty():
            letters.append(self._letters.get())
        return letters
