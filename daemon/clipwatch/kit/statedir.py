"""Where clipwatch keeps what is its own, when nobody names a place."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from clipwatch.kit.errors import SettingsError


def default_state_dir() -> Path:
    """Return the platform's folder for the state of a user's program.

    Raises:
        SettingsError: This user has no home.
    """
    try:
        return platformdirs.user_state_path("clipwatch")
    except RuntimeError as error:
        fix = "name a folder with --state-dir or CLIPWATCH_STATE_DIR"
        raise SettingsError("this user has no home directory for the state", fix=fix) from error
