"""A tracker that lives in memory: the contract at its simplest, and what tests publish to."""

from __future__ import annotations

from collections.abc import Sequence

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series, Summary


class MemoryTracker:
    """Keep published results in `rows`: series name → seq → (step, summary)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: dict[str, dict[int, tuple[int, Summary]]] = {}

    def destination(self) -> str:
        """There is one memory."""
        return "memory"

    def published(self, series: Series) -> frozenset[int]:
        """Return what is in `rows`."""
        return frozenset(self.rows.get(series.name, {}))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write into `rows`."""
        rows = self.rows.setdefault(series.name, {})
        for seq in missing:
            result = series.results[seq]
            rows[seq] = (result.step, result.clip)

    def clear(self, series: Series) -> None:
        """Forget the series."""
        self.rows.pop(series.name, None)

    def where(self, series: Series) -> str:
        """Return an address that only says what it is."""
        return f"memory:{series.run}/{series.name}"

    def hint(self, series: Series) -> str:  # noqa: ARG002 - the trackers' interface
        """Nothing shows it."""
        return ""
