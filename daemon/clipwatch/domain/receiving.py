"""What trackers and channels came to have, event by event; a part of the fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from sys import intern

from clipwatch.domain.events import AdviceNotSent, PublishFailed
from clipwatch.domain.state import Received, Trial


class Receiving:
    """The receivers of one kind in the making, by name; what it begins with is never changed.

    Each place has thousands of names in a long run, so only what changes is copied, once.
    """

    def __init__(self, before: Mapping[str, Received]) -> None:
        self._known = dict(before)
        self._had = {name: dict(known.had) for name, known in before.items()}
        self._own: dict[tuple[str, str], set[str]] = {}  # the copies

    def final(self) -> dict[str, Received]:
        """Return all of them; nothing may be taken any more."""
        return {
            name: replace(known, had=self._had.get(name, {})) for name, known in self._known.items()
        }

    def moved(self, name: str, destination: str, *, anew: bool) -> None:
        """Go over to another destination.

        What came to an unknown one, in the log of an earlier version, came to the first that is
        told. With `anew` a place must be read again where something was before: in between it may
        have been moved away.
        """
        known, had = self._of(name), self._had.setdefault(name, {})
        if not known.destination:
            had[destination] = had.pop("", frozenset())
            for place in ("", destination):
                self._own.pop((name, place), None)
        elif anew:
            had[destination] = self._own[name, destination] = set()
        self._known[name] = replace(known, destination=destination, trials={}, more={})

    def took(
        self, name: str, destination: str, protocol: str, ids: Iterable[str], where: str = ""
    ) -> None:
        """Note what a destination has, "" for the present one."""
        known = self._of(name)
        place = destination or known.destination
        self._copy(name, place).update(map(intern, ids))
        trials, places = dict(known.trials), dict(known.places)
        if place == known.destination:
            trials.pop(protocol, None)
        if where:
            places.pop(protocol, None)
            places[protocol] = where  # the last one
        self._known[name] = replace(known, trials=trials, places=places)

    def lost(self, name: str, destination: str, ids: Iterable[str]) -> None:
        """Note what a destination has no more."""
        self._copy(name, destination).difference_update(ids)

    def shows_more(self, name: str, destination: str, protocol: str, ids: tuple[str, ...]) -> None:
        """Note what a place shows of a series that the log lacks."""
        known = self._of(name)
        if destination == known.destination:
            self._known[name] = replace(known, more={**known.more, protocol: ids})

    def forget(self, ids: Iterable[str]) -> None:
        """Let these be owed to all again, wherever they were."""
        for id_ in ids:
            for name, had in self._had.items():
                for place in [place for place, there in had.items() if id_ in there]:
                    self._copy(name, place).discard(id_)

    def failed(self, name: str, protocol: str, event: AdviceNotSent | PublishFailed) -> None:
        """Note an attempt in vain, unless it was for a place that is none any more."""
        known = self._of(name)
        if event.destination in ("", known.destination):
            again = event.retry_at
            trial = Trial(event.attempt, event.reason, again, parked=again is None)
            self._known[name] = replace(known, trials={**known.trials, protocol: trial})

    def forgive(self) -> None:
        """Let everything be tried again at once: the settings have changed."""
        for name, known in self._known.items():
            self._known[name] = replace(known, trials={})

    def _copy(self, name: str, place: str) -> set[str]:
        """Return what a place has, to be changed."""
        had = self._had.setdefault(name, {})
        if (name, place) not in self._own:
            had[place] = self._own[name, place] = set(had.get(place, ()))
        return self._own[name, place]

    def _of(self, name: str) -> Received:
        return self._known.get(name, Received())
