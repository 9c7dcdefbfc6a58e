"""A log that is made up as it goes: any order, repeated steps, later scorers, weights come back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from clipwatch.results.series import Result, Series
from clipwatch.testing.series import START, make_protocol, make_series, with_everything

STEPS: Final = (100, 200, 300, 400, 500)

RESULTS: Final = 10
"""Of each of two series, at most."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a log says: the results of each series, and where each is (Target.places)."""

    results: Mapping[str, tuple[Result, ...]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


class MadeUpLog:
    """Two series of one run, of which more and more is said.

    Each change returns the evaluation that it is of and what happened to it, or None where nothing
    can happen.

    Args:
        folder: The images are made below it.
        chance: Decides.

    Attributes:
        said: What it says; what it said earlier may be put in its place.
        complete: The series with all results that there can be, by name.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.said = Said()
        self.complete = {it.name: it for it in _made_up(folder, chance)}
        self._chance, self._minutes = chance, 0

    def series(self, name: str) -> Series:
        """Return a series as it is now."""
        return replace(self.complete[name], results=self.said.results[name])

    def any(self) -> Series:
        """Return one that has results."""
        return self.series(self._chance.choice([*self.said.results]))

    def place(self, name: str, where: str) -> None:
        """Write down where a series is."""
        others = {it: place for it, place in self.said.places.items() if it != name}
        self.said = replace(self.said, places={**others, name: where})

    def score(self) -> tuple[str, str] | None:
        """Add a result, which the tracker may know by a log that was lost."""
        series = self._chance.choice([*self.complete.values()])
        log = self.said.results.get(series.name, ())
        known = {it.evaluation for it in log}
        fresh = [it for it in series.results if it.evaluation not in known]
        if not fresh:
            return None
        result = self._chance.choice(fresh)
        later = self._chance.choice(["", *result.scores])
        scores = {it: found for it, found in result.scores.items() if not it or it != later}
        self._write(series.name, (*log, replace(result, finished=self._now(), scores=scores)))
        return result.evaluation, f"of step {result.step} is scored"

    def score_later(self) -> tuple[str, str] | None:
        """Have a result scored by a further scorer, from its kept images."""
        lacking = [
            (name, seq, complete)
            for name, log in self.said.results.items()
            for seq, result in enumerate(log)
            for complete in self.complete[name].results
            if complete.evaluation == result.evaluation
            if complete.scores.keys() != result.scores.keys()
        ]
        if not lacking:
            return None
        name, seq, complete = self._chance.choice(lacking)
        log = [*self.said.results[name]]
        later = {it: self._now() for it in complete.scores.keys() - log[seq].scores.keys()}
        log[seq] = replace(log[seq], scores=complete.scores, later=later)
        self._write(name, log)
        return complete.evaluation, f"is scored by {', '.join(later)} later"

    def bring_back(self) -> tuple[str, str] | None:
        """Bring weights back that others had replaced: their result is last again."""
        replaced = [
            (name, result)
            for name, log in self.said.results.items()
            for result in log
            if any(it.step == result.step for it in log[result.seq + 1 :])
        ]
        if not replaced:
            return None
        name, result = self._chance.choice(replaced)
        log = self.said.results[name]
        self._write(name, (*(it for it in log if it is not result), result))
        return result.evaluation, "is back"

    def _write(self, name: str, results: Iterable[Result]) -> None:
        log = tuple(replace(it, seq=seq) for seq, it in enumerate(results))
        self.said = replace(self.said, results={**self.said.results, name: log})

    def _now(self) -> datetime:
        self._minutes += 1
        return START + timedelta(minutes=self._minutes)


def _made_up(folder: Path, chance: random.Random) -> list[Series]:
    """Return two series of all results that there can be; no two have the same scores."""
    plain = make_series(folder, [chance.choice(STEPS) for _ in range(2 * RESULTS)])
    full = with_everything(plain)
    scores = {it.evaluation: full.scores(it.evaluation) for it in full.results}
    both = zip(plain.results, full.results, full.results, strict=True)
    results = [chance.choice(either) for either in both]
    other = make_protocol(seed=1)
    first = replace(full, results=tuple(results[:RESULTS]), scores=scores.__getitem__)
    second = replace(
        first,
        name=f"clipwatch-{other.digest[:8]}",
        digest=other.digest,
        protocol=other,
        results=tuple(results[RESULTS:]),
    )
    return [first, second]
