"""What tests of all trackers share: publishing as the daemon does, and the numbers of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pytest

from clipwatch.delivery.outbox import Publishing
from clipwatch.delivery.trackers import Tracker
from clipwatch.results.series import Result, Series
from clipwatch.testing.interleavings import TrackerInterleavings
from clipwatch.testing.witness import Point
from clipwatch_adapters.shared.numbers import Names, scalars

NUMBER: Final = re.compile("clip/|clip_|scorer_")
"""How the names of all numbers begin."""


def bring(tracker: Tracker, series: Series) -> frozenset[int]:
    """Publish what the tracker lacks, and return the `seq` of all that it shows then.

    Raises:
        TrackerUnavailable, TrackerRefused: See Publishing.bring.
    """
    there = set(Publishing(tracker).bring(series, frozenset()))
    return frozenset(result.seq for result in series.results if result.evaluation in there)


def courses(count: int) -> Any:
    """Return the fixture `seed` of TrackerInterleavings, for so many courses."""

    @pytest.fixture(params=range(count))
    def seed(_test: object, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    return seed


class Interleavings(TrackerInterleavings):
    """For adapters that show the numbers as all of ours do."""

    def numbers(self, series: Series, result: Result) -> Mapping[str, float]:
        """See TrackerInterleavings."""
        return scalars(Names.of(series), result)


class OfSessions(Interleavings):
    """For those that work in processes of their own, each of which takes a second or two."""

    appends = True
    events = 8
    elsewhere = 2.0


def points(rows: Iterable[Mapping[str, Any]], step: str) -> Iterator[Point]:
    """Yield the points of rows that hold numbers by their names, among others; `step` is a key."""
    for row in rows:
        for name, value in row.items():
            if NUMBER.match(name) and isinstance(value, float | int):
                yield name, row[step], value
