"""Starts a session with Trackio: its environment."""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING

from clipwatch_adapters.shared import sessions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clipwatch_adapters.trackio.session import Job

OWN = re.compile(r"TRACKIO_(SQLITE_\w+|STORAGE_MODE)")
"""The names of Trackio's in our environment that a session may see: none leads to a network."""

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def run(job: Job, folder: Path, log: IO[bytes] | int) -> sessions.Outcome:
    """Run a session on the job, with the store in a folder.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    own = environment(os.environ) | {"TRACKIO_DIR": str(folder)}
    return sessions.run("Trackio", "clipwatch_adapters.trackio", job, own, log)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a session gets beside everybody's surroundings."""
    return {name: value for name, value in environ.items() if OWN.fullmatch(name)} | QUIET
