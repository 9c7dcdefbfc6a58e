"""The log: its store, its file, its formats over time, and what can be saved of a damaged one."""

from __future__ import annotations

from clipwatch.journal.reading import Recorded
from clipwatch.journal.store import Journal, log_file

__all__ = ["Journal", "Recorded", "log_file"]
