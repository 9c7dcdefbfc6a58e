"""The trackers: each adapter is asked where it publishes, which changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import target
from clipwatch.doctor.findings import Finding, fail, ok, warn
from clipwatch.doctor.state_dir import run_name
from clipwatch.domain.curves import series_name
from clipwatch.domain.delivered import Destination, addressed, owed
from clipwatch.domain.fold import evolve
from clipwatch.domain.state import Run
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit import plugins
from clipwatch.kit.errors import JournalError, SettingsError, TrackerRefused, TrackerUnavailable
from clipwatch.results.reading import images_of
from clipwatch.results.series import Series
from clipwatch.results.view import beyond
from clipwatch.settings import Settings, left_out

SECONDS = 40.0
"""Longer than any adapter may take to say where it publishes."""


def none(settings: Settings) -> Finding:
    """Say of a run without trackers whether that is meant."""
    if left := left_out.trackers(settings):
        return warn("trackers", left.found, left.fix)
    return ok("trackers", f"none, by {settings.source('report_to')}: scores stay in the log")


def look(settings: Settings, name: str) -> list[Finding]:
    """Ask one adapter; W&B's asks its server, with the key, for a run that is not there yet."""
    check, run = f"tracker {name}", run_name(settings)
    try:
        state = read_state(log_file(settings.paths.state_dir)).get(run)
    except JournalError:  # of which the state directory's check tells
        state = None
    series = Series(
        run=run,
        name=series_name(state, state.protocol) if state and state.protocol else "clipwatch",
        digest=(state and state.protocol) or settings.protocol.digest,
        protocol=settings.protocol,
        results=(),
        scores=lambda _: (),
        images=images_of(settings.paths.state_dir, run),
    )
    first = str(settings.paths.named)
    known = state or Run(run, first, "", (), {}, first_dir=first)
    try:
        adapter = trackers.load(name)
        tracker = adapter(target(settings, known, name))
        where = tracker.where(series)
        hint = tracker.hint(series)
        place = tracker.destination()
    except (SettingsError, TrackerRefused) as error:
        fix = error.fix or "correct its settings, see docs/trackers.md"
        return [fail(check, error.problem, fix)]
    except TrackerUnavailable as error:
        fix = error.fix or "see to it when you can: results wait in the log until it is reached"
        return [warn(check, error.problem, fix)]
    found = assess(check, where, hint, settings.paths.state_dir)
    count = owed_at(state, Destination("tracker", name, place)) if state else 0
    more = f"; {count} result{'s' * (count > 1)} of the log will be published there" * bool(count)
    package = f"; {plugins.told(needs)}" if (needs := plugins.needed(adapter)) else ""
    told = [it for it in beyond(state) if it.startswith(f"{name}: ")] if state else []
    lacks = "".join(f"; it {it.removeprefix(f'{name}: ')}" for it in told)
    return [replace(found, found=found.found + package + more + lacks)]


def owed_at(run: Run, destination: Destination) -> int:
    """Return how many results a daemon would bring to a tracker that publishes there now."""
    told = [(run.name, event, datetime.now(UTC)) for event in addressed(run, destination)]
    lacking = owed(evolve({run.name: run}, told)[run.name], "tracker", destination.name)
    return sum(map(len, lacking.values()))


def assess(check: str, where: str, hint: str, state_dir: Path) -> Finding:
    """Say whether results can go to `where`, an address or a folder that may not exist yet."""
    how = f"; then `{hint}`" if hint else ""
    folder = Path(where)
    if not folder.is_absolute():
        return ok(check, f"{where}{how}")
    stands = next(path for path in (folder, *folder.parents) if path.exists())
    # below the state directory, whose own check tells whether it can be written
    if not folder.is_relative_to(state_dir) and not os.access(stands, os.W_OK | os.X_OK):
        return fail(check, f"{stands} cannot be written", "run clipwatch as its owner")
    return ok(check, f"{where}{how}")
