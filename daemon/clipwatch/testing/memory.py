"""A tracker that lives in memory: the contract at its simplest, and what tests publish to."""

from __future__ import annotations

from collections.abc import Sequence

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series, Summary


class MemoryTracker:
    """Keep published results in `rows`: series name → evaluation → (step, summary).

    `later` holds what scorers that came later said: (series name, evaluation, scorer) → summary.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: dict[str, dict[str, tuple[int, Summary]]] = {}
        self.later: dict[tuple[str, str, str], Summary] = {}

    def destination(self) -> str:
        """There is one memory."""
        return "memory"

    def published(self, series: Series) -> frozenset[int]:
        """Return what is in `rows`, but for results of which something lacks in `later`."""
        rows = self.rows.get(series.name, {})
        return frozenset(
            it.seq
            for it in series.results
            if it.evaluation in rows
            if all((series.name, it.evaluation, name) in self.later for name in it.later)
        )

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write into `rows`."""
        rows = self.rows.setdefault(series.name, {})
        for result in (series.results[seq] for seq in missing):
            rows[result.evaluation] = (result.step, result.clip)
            for name in result.later:
                self.later[series.name, result.evaluation, name] = result.scores[name]

    def clear(self, series: Series) -> None:
        """Forget the series."""
        self.rows.pop(series.name, None)

    def where(self, series: Series) -> str:
        """Return an address that only says what it is."""
        return f"memory:{series.run}/{series.name}"

    def hint(self, series: Series) -> str:  # noqa: ARG002 - the trackers' interface
        """Nothing shows it."""
        return ""
