"""Keeps what rotation may delete until it is evaluated: as a reflink, a pin or a copy."""

from __future__ import annotations

from clipwatch.staging.kept import Held
from clipwatch.staging.stage import Stage, Staged

__all__ = ["Held", "Stage", "Staged"]
