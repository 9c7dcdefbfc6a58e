"""Publishes in a process of its own and is killed amid it: `python -m clipwatch.testing.killed`."""

from __future__ import annotations

import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import BytesIO, StringIO
from types import FrameType
from typing import Any, Final

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series

_CHANGES: Final = frozenset(
    {
        *("open", "write", "flush", "fsync", "fdatasync", "truncate", "ftruncate"),
        *("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir"),
        *("execute", "executemany", "commit", "send", "sendall", "fork_exec"),
    }
)
"""The functions of C that change what others see: it is killed before one of them."""


def publish_killed(
    adapter: str, target: Target, series: Series, seqs: Sequence[int], calls: int, seconds: float
) -> int | None:
    """Publish, and get killed (-9) so many seconds after so many calls that changed something.

    Args:
        adapter: "package.module:Class", which a new process can import.
        target: What it is made with.
        series: What is published, of which
        seqs: these, as far as they are missing.
        calls: 0 or more.
        seconds: For what goes on in other processes.

    Returns:
        None where it was; else how many such calls it came to its end with.

    Raises:
        AssertionError: It ended otherwise; the text is what it said.
    """
    asked = pickle.dumps((adapter, target, series, seqs, calls, seconds))
    ended = subprocess.run(
        [sys.executable, "-m", __name__],
        input=asked,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr.decode(errors="replace")
    return None if ended.returncode else int(ended.stdout)


def _main() -> None:
    adapter, target, series, seqs, calls, seconds = pickle.load(sys.stdin.buffer)  # noqa: S301 - our parent's
    tracker = pkgutil.resolve_name(adapter)(target)
    made = 0

    def count(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal made
        if event == "c_call":
            own = isinstance(called.__self__, (BytesIO, StringIO))
            made += called.__name__ in _CHANGES and not own
            if made > calls:
                sys.setprofile(None)
                _kill(seconds)

    sys.setprofile(count)
    missing = sorted({*seqs} - tracker.published(series))
    tracker.publish(series, missing)
    sys.setprofile(None)
    print(made)  # noqa: T201 - our parent reads it


def _kill(seconds: float) -> None:
    if not seconds:
        os.kill(os.getpid(), signal.SIGKILL)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    _main()
