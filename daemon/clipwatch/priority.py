"""Let the training go first."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

import psutil

NICENESS: Final = 10
IO_PRIORITY: Final = 7
"""The last of the best-effort class; "idle" would starve beside a training that always reads."""


def give_way() -> None:
    """Lower our CPU and I/O priority, for this thread and all that it starts from here on.

    To be called from the main thread, before others start. What is lower already stays.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    if sys.platform == "linux":
        process = psutil.Process()
        with suppress(psutil.Error, OSError):  # a sandbox may forbid it
            if process.ionice().ioclass != psutil.IOPRIO_CLASS_IDLE:
                process.ionice(psutil.IOPRIO_CLASS_BE, IO_PRIORITY)
