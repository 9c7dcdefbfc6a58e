"""What our processes are among others: never longer there than the daemon, and the last in line."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

import psutil

_PR_SET_PDEATHSIG: Final = 1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

MAPPED_BYTES: Final = 16 * 1024
"""From which size on a block has pages of its own, which its end gives back."""


def end_with_parent() -> None:
    """Have the kernel kill us when the thread that started us ends (Linux).

    A parent that died before this call is noticed by the end of stdin.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout for ourselves; what libraries print goes to stderr from here on."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def return_memory() -> None:
    """Have malloc keep nothing of what is freed (glibc); before other threads start.

    A daemon copies tables of some 100 KB for each event, in several threads. Else malloc keeps such
    blocks in a heap for each thread, and what stays for good comes to lie between them: in a soak
    (benchmarks/soak.py) memory then grew by twice as much as the state.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        with suppress(AttributeError):  # of another C library
            libc.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
            libc.mallopt(_M_ARENA_MAX, 1)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while large libraries are imported, nor later among what they leave.

    It is half a million objects for torch and diffusers: a fifth of the time that they take to
    import, and half a second whenever a model is let go.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
