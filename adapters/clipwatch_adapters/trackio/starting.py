"""Starts a session with Trackio: a child process and its environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch_adapters.trackio.session import GRACE, Job, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEPT = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH"
    r"|TRACKIO_(SQLITE_\w+|STORAGE_MODE)"
)
"""The names in our environment that a session may see: none that leads to a network."""

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def run(job: Job, folder: Path) -> Outcome:
    """Run a child on the job; it is gone `job.seconds` and a little later at the latest.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "clipwatch_adapters.trackio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(os.environ) | {"TRACKIO_DIR": str(folder)},
        start_new_session=True,
    ) as process:
        try:
            answer, said = process.communicate(msgspec.json.encode(job), job.seconds + GRACE)
        except subprocess.TimeoutExpired as late:
            answer, said = late.stdout or b"", b""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    try:
        outcome = msgspec.json.decode(answer, type=Outcome)
    except ValueError as error:
        last = (said.decode(errors="replace").split("\n") or [""])[-1]
        raise TrackerUnavailable(
            f"the Trackio session ended with {process.returncode} and no answer;"
            f" it had {job.seconds + GRACE:.0f} s{last and ': '}{last}"
        ) from error
    if outcome.kind == "refused":
        raise TrackerRefused(outcome.reason, fix=outcome.fix)
    if outcome.kind == "unavailable":
        raise TrackerUnavailable(outcome.reason)
    return outcome


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a session may inherit."""
    return {name: value for name, value in environ.items() if KEPT.fullmatch(name)} | QUIET
