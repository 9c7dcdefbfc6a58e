"""What a check says: a verdict, what was found, and for anything but "ok" one thing to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The word of one check.

    Attributes:
        check: What was looked at, a few words.
        verdict: "fail" for what stops a run, or keeps its scores from where they should go.
        found: One line without secrets.
        fix: One line, "" when all is well.
    """

    check: str
    verdict: Grade
    found: str
    fix: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warn(check: str, found: str, fix: str) -> Finding:
    """A run goes on, but not as well as it could."""
    return Finding(check, "warn", found, fix)


def fail(check: str, found: str, fix: str) -> Finding:
    """A run would stop here."""
    return Finding(check, "fail", found, fix)


def size(count: float) -> str:
    """Return bytes for a person."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004
