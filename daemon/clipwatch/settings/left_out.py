"""What to know of a key that was left out, where its default is seldom what a user expects."""

from __future__ import annotations

from typing import NamedTuple

from clipwatch.settings.values import Settings


class LeftOut(NamedTuple):
    """What holds, and what to do where that is not meant; both make one line."""

    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.found}: {self.fix}"


def trackers(settings: Settings) -> LeftOut | None:
    """Tell where scores stay if nobody named a tracker; None where some, or "none", are named."""
    if settings.trackers or settings.source("report_to") != "default":
        return None
    return LeftOut(
        "none, so the scores stay in the log (clipwatch status)",
        'set report_to, as "clipwatch": {"report_to": "tensorboard"}, or "none" if it is meant',
    )
