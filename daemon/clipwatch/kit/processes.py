"""What our processes are among others: never longer there than the daemon, and the last in line."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Have the kernel kill us when the thread that started us ends (Linux).

    A parent that died before this call is noticed by the end of stdin.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
