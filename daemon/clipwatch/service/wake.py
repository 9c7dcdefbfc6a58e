"""How a trainer's hook tells the daemons of a state directory to look at once.

A file made in STATE_DIR/wake is the whole message: they watch that folder. So nothing has to be
reachable, nobody waits for an answer, and a daemon that is not there is woken by its own rescans.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def wake_folder(state_dir: Path) -> Path:
    """Return the folder that the daemons of a state directory watch."""
    return state_dir / "wake"


def ring(state_dir: Path) -> None:
    """Wake the daemons of a state directory.

    Raises:
        OSError: There is no such folder, or it is not ours to write into.
    """
    bell = wake_folder(state_dir) / uuid4().hex
    os.close(os.open(bell, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    bell.unlink()
