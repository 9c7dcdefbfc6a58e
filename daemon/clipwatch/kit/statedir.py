"""Where clipwatch keeps what is its own, when nobody names a place."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def default_state_dir() -> Path:
    """Return the platform's folder for the state of a user's program."""
    return platformdirs.user_state_path("clipwatch")
