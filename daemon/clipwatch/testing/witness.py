"""Holds what a tracker shows against what logs have said."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from clipwatch.results.series import Result, Series

Point = tuple[str, int, float]
"""The name of a number, a step, the value there: what a person sees as a point of a curve."""

Read = Callable[[Series, str, str], Iterable[Point]]
Numbers = Callable[[Series, Result], Mapping[str, float]]

NOTHING: Final[frozenset[str]] = frozenset()


class Witness:
    """Knows all that was ever said, and what was there when it looked last.

    Args:
        series: By name, with all results that there can be.
        read: See TrackerInterleavings.
        numbers: Likewise.
        appends: Likewise.
    """

    def __init__(
        self, series: Mapping[str, Series], read: Read, numbers: Numbers, *, appends: bool
    ) -> None:
        self._series, self._read, self._numbers, self._appends = series, read, numbers, appends
        self._said: dict[str, dict[str, dict[Point, None]]] = {name: {} for name in series}
        self._places: dict[str, set[tuple[str, str]]] = {name: set() for name in series}
        self._there: dict[str, frozenset[str]] = {}

    def hear(self, name: str, results: Iterable[Result]) -> None:
        """Remember what a log says of a series."""
        for result in results:
            points = dict.fromkeys(self._points(name, result))
            self._said[name].setdefault(result.evaluation, {}).update(points)

    def there(self, name: str) -> frozenset[str]:
        """Return the evaluations of a series that have to be there still."""
        return self._there.get(name, NOTHING)

    def forget(self, name: str, results: Iterable[Result]) -> None:
        """These need not be there any more: of their step there is more to show, or another."""
        self._there[name] = self.there(name).difference(it.evaluation for it in results)

    def forget_all(self) -> None:
        """Nothing has to be there."""
        self._there = {}

    def look(self, name: str, shown: Sequence[Result], where: str, project: str) -> None:
        """Have these be shown at a place, and nowhere what was not said, or twice.

        Args:
            name: Of the series.
            shown: In order of their seq.
            where: See TrackerInterleavings.read.
            project: Likewise.

        Raises:
            AssertionError: It is otherwise, or something is gone.
        """
        lost = self.there(name) - {it.evaluation for it in shown}
        assert not lost, f"no longer there: {sorted(lost)}"
        self._there[name] = frozenset(it.evaluation for it in shown)
        self._places[name].add((where, project))
        for place in self._places[name]:
            points = [*map(single, self._read(self._series[name], *place))]
            said = Counter(point for its in self._said[name].values() for point in its)
            extra = Counter(points) - said
            assert not extra, f"{name} shows what was not said, or twice: {sorted(extra.items())}"
            if place == (where, project):
                for result in {it.step: it for it in shown}.values():
                    self._stands(name, result, points)

    def _stands(self, name: str, result: Result, points: Iterable[Point]) -> None:
        """Have all of a result be there, and nothing of an earlier one behind or beside it."""
        own = self._points(name, result)
        at = [point for point in points if point[1] == result.step]
        lacking = own - {*at}
        assert not lacking, f"{result.evaluation} lacks {sorted(lacking)}"
        beside = {*at} - self._said[name][result.evaluation].keys()  # a lost log may have had more
        if self._appends:
            said = [*self._said[name].items()]
            order = [evaluation for evaluation, _ in said]
            newer = said[order.index(result.evaluation) + 1 :]
            last = {number: (number, step, value) for number, step, value in at}
            beside &= {last[number] for number, _, _ in own}
            beside -= {point for _, its in newer for point in its}
        assert not beside, f"{result.evaluation} does not stand for its step: {sorted(beside)}"

    def _points(self, name: str, result: Result) -> set[Point]:
        numbers = self._numbers(self._series[name], result)
        return {single((number, result.step, value)) for number, value in numbers.items()}


def single(point: Point) -> Point:
    """Return a point as trackers have it that keep numbers in 32 bits."""
    name, step, value = point
    return name, step, struct.unpack("f", struct.pack("f", value))[0]
