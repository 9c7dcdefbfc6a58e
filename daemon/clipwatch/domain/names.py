"""What things are called."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from clipwatch.domain.kinds import ReceiverKind

SLUG = 150
"""Characters of a directory's name in its run's, of which names of files are made."""


_RECEIVERS: Final = {"tracker": "tracker", "channel": "advice"}


def run_id(output_dir: Path | str, digits: int = 6) -> str:
    """Name the run of an output directory: readable, and with `digits` of its path's digest."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(output_dir).name).strip("-")[:SLUG] or "run"
    return f"{slug}-{hashlib.sha256(str(output_dir).encode()).hexdigest()[:digits]}"


def votes_stream(run: str) -> str:
    """Name the stream that holds the votes of a run."""
    return f"votes/{run}"


def evaluation_stream(run: str, evaluation: str) -> str:
    """Name the stream that holds an evaluation."""
    return f"evaluation/{run}/{evaluation}"


def receiver_stream(run: str, kind: ReceiverKind, name: str) -> str:
    """Name the stream that holds what a tracker or channel was brought."""
    return f"{_RECEIVERS[kind]}/{run}/{name}"


def leads_inside(name: str) -> bool:
    """Whether a name is that of something below a folder, and leads nowhere else.

    What this machine named does; another one's log may hold any name.
    """
    parts = name.split("/")
    return name.isprintable() and bool(parts[0]) and not {".", ".."}.intersection(parts)
