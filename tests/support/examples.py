"""How many examples a property is held with, where it is not the profile's number."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

FULL = 100
"""The full profile's number."""


def examples(full: int, **more: Any) -> settings:
    """Return settings for `full` examples under the full profile, and their share under another."""
    profile = settings.get_profile(settings.get_current_profile_name())
    return settings(max_examples=max(1, full * profile.max_examples // FULL), **more)
