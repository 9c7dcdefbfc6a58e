"""Publishes as the daemon does."""

from __future__ import annotations

from clipwatch.delivery.outbox import Publishing
from clipwatch.delivery.trackers import Tracker
from clipwatch.results.series import Series


def bring(tracker: Tracker, series: Series) -> frozenset[int]:
    """Publish what the tracker lacks, and return the `seq` of all that it shows then.

    Raises:
        TrackerUnavailable, TrackerRefused: See Publishing.bring.
    """
    there = set(Publishing(tracker).bring(series, frozenset()))
    return frozenset(result.seq for result in series.results if result.evaluation in there)
