"""The tables of results that every run has in the state directory, whatever the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import Publishing, target
from clipwatch.domain.retries import is_due, pause
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import series_of
from clipwatch.settings import Settings
from clipwatch.settings.derived import ALWAYS


class Tables:
    """Keeps them as the log is: each is read, and written where it lacks something.

    They lie beside the log and follow from it, so no event tells of them and no result is owed to
    them: the log would only speak of itself. A result that comes last is a line at the end of a
    local file, as it is in the log, and needs no thread.

    Args:
        log: Of the run; hears what cannot be written, once.
        clock: The time, in UTC.
    """

    def __init__(self, log: RunLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock
        self._tables: dict[str, trackers.Tracker] = {}
        self._kept: dict[str, Mapping[str, Sequence[str]]] = {}
        self._failed: dict[str, tuple[str, datetime]] = {}  # why, and when it is tried again

    def keep(self, settings: Settings) -> None:
        """Bring them up to date; one that fails is tried again after a pause."""
        scored = self._log.run.scored
        for name in ALWAYS:
            before, again = self._failed.get(name, ("", None))
            if self._kept.get(name, {}) == scored or not is_due(again, self._clock()):
                continue
            try:
                self._bring(name, settings)
            except Exception as error:  # noqa: BLE001 - for no table anything else stops
                if str(error) != before:
                    self._log.say(str(error))
                self._kept.pop(name, None)  # it is read again, as after a start
                self._failed[name] = str(error), self._clock() + pause(1, 0.0)
            else:
                self._failed.pop(name, None)
                self._kept[name] = scored

    def _bring(self, name: str, settings: Settings) -> None:
        run, state_dir = self._log.run, settings.paths.state_dir
        if name not in self._tables:
            self._tables[name] = trackers.make(name, target(settings, run, name))
        table, kept = self._tables[name], self._kept.get(name, {})
        for protocol, ids in run.scored.items():
            had = kept.get(protocol, ())
            if had == ids:
                continue
            if had and had == ids[:-1] and isinstance(table, trackers.Extending):
                one = series_of(run, protocol, state_dir, len(had))
                if table.extend(one):
                    continue
            list(Publishing(table).bring(series_of(run, protocol, state_dir), frozenset()))
