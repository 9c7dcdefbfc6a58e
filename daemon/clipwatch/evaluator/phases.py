"""Where the seconds of an evaluation go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class Phases:
    """Adds up `seconds` by phase, from any thread.

    Phases may overlap, so their sum may exceed the time that passed; time between them is in none.
    """

    def __init__(self) -> None:
        self.seconds = {"load": 0.0, "generate": 0.0, "score": 0.0, "save": 0.0}
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, name: Literal["load", "loss", "generate", "score", "save"]) -> Iterator[None]:
        """Count what is done inside."""
        started = time.monotonic()
        yield
        with self._lock:
            seconds = time.monotonic() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
