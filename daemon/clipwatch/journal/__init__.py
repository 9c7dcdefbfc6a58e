"""The log: its store, its file, its formats over time, and what can be saved of a damaged one."""

from __future__ import annotations

from clipwatch.journal.store import Journal, Recorded, log_file

__all__ = ["Journal", "Recorded", "log_file"]
