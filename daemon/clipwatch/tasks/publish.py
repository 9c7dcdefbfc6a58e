"""A run's results, brought to a tracker from the log: no daemon, no GPU, no models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from clipwatch.delivery import trackers
from clipwatch.delivery.outbox import Outbox
from clipwatch.domain.delivered import Destination, addressed
from clipwatch.domain.events import PublishFailed
from clipwatch.domain.names import receiver_stream
from clipwatch.domain.state import Run, State
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection, read_state
from clipwatch.kit import plugins, secrets
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.recognising import recognise
from clipwatch.results.named import run_named
from clipwatch.results.reading import series_of
from clipwatch.results.series import Series
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings, load

BATCH: Final = 48
"""Results that are brought, read back and written down at once: what a kill has to repeat."""

TRIES: Final = 3
"""How often a batch is tried where what failed may pass; each goes on where the last one ended."""

_MODEL: Final = "pretrained_model_name_or_path"
_NOT_HERE: Final = "not/here"
"""Stands for a base model in a folder that is another machine's: nothing of it is loaded."""

_REMEMBERED: Final = (
    *(_MODEL, "validation_resolution", "logging_dir", "working_dir"),
    *("tracker_project_name", "tracker_run_name"),
)
"""Of a run's settings in the log, what says where its results go, and what none can be without."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be brought.

    Attributes:
        tracker: The adapter's name.
        since: The first step, None for all.
        fresh: What is there already is taken away first.
    """

    tracker: str
    since: int | None
    fresh: bool


def settings_of(
    config: Path | None, run: str, flags: Mapping[str, Any], environ: Mapping[str, str], cwd: Path
) -> tuple[Settings, str]:
    """Return the settings of a run of the log, and its name.

    Args:
        config: The run's; None for what the log knows of its settings, without their secrets.
        run: The beginning of its name; "" for that of the configuration, or the only one.
        flags: As those of `load`; with the state directory where there is no configuration.
        environ: The environment variables.
        cwd: The directory of the call, absolute.

    Raises:
        SettingsError: The configuration is wrong, or another run's.
        ClipwatchError: No such run is known.
    """
    if config is None:
        found = run_named(_state(Path(flags["state_dir"])), run)
        kept = {key: it for key, it in _kept(found) if secrets.HIDDEN not in it}
        given = {**kept, **flags, "output_dir": found.output_dir}
        return load(None, flags=given, environ=environ, cwd=cwd), found.name
    settings = load(config, flags=flags, environ=environ, cwd=cwd)
    state, paths = _state(settings.paths.state_dir), settings.paths
    own = recognise(log_file(paths.state_dir), paths.named, settings.watching.layout).name
    named = run_named(state, run).name if run or own not in state else own
    if named != own:
        problem = f"{config} is of {paths.named}, and not of {named}"
        raise SettingsError(problem, fix="name its own with --config, or call it elsewhere")
    return settings, named


def _state(state_dir: Path) -> State:
    if state := read_state(log_file(state_dir)):
        return state
    raise ClipwatchError(f"there is no log in {state_dir}", fix="name its folder, --state-dir")


def _kept(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what the log keeps of the settings that say where results go."""
    installed = plugins.names(plugins.TRACKERS)
    for key, value in run.settings.items():
        elsewhere = Path(value).is_absolute() and not Path(value).is_dir()
        if elsewhere and key == _MODEL:
            yield key, _NOT_HERE
        elif elsewhere and key == "working_dir":
            continue  # another machine's, as of an imported run
        elif key in _REMEMBERED or ("." in key and key.partition(".")[0] in installed):
            yield key, value


def publish(settings: Settings, name: str, wanted: Wanted, console: Console) -> list[str]:
    """Bring what a tracker lacks of a run; return where it shows each series, a line each.

    Args:
        settings: Of the run.
        name: The run's.
        wanted: What is brought.
        console: Is told how far it is.

    Raises:
        SettingsError: There is no such tracker.
        ClipwatchError: A daemon watches the run, nothing is scored, or not all could be brought;
            the text says why. What was brought is there, and another call goes on from it.
    """
    trackers.load(wanted.tracker)
    fix = (
        f"it publishes all of its own accord where report_to names {wanted.tracker}; "
        "else stop it first"
    )
    with (
        exclusive(settings.paths.state_dir, name, fix),
        Journal(log_file(settings.paths.state_dir)) as journal,
    ):
        return _Publication(settings, name, wanted, Projection(journal, name), console).all()


class _Publication:
    """One call, under the run's lock."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        wanted: Wanted,
        projection: Projection,
        console: Console,
    ) -> None:
        self._settings, self._name, self._wanted = settings, name, wanted
        self._projection, self._console = projection, console

    def all(self) -> list[str]:
        """Bring each series; one that is refused holds up no other."""
        run, since = self._run, self._wanted.since
        series = [
            series_of(run, protocol, self._settings.paths.state_dir)
            for protocol in sorted(run.scored, key=lambda it: it not in run.present)
        ]
        todo = {
            it.name: (it, [r.seq for r in it.results if since is None or r.step >= since])
            for it in series
        }
        if not any(seqs for _, seqs in todo.values()):
            there = "" if since is None else f" at {run.unit} {since} or later"
            raise ClipwatchError(f"nothing is scored yet{there}", fix="clipwatch status shows why")
        place = self._outbox.destination("tracker", self._wanted.tracker).place
        self._address(place)
        lines, problems = [], []
        for it, seqs in todo.values():
            try:
                lines += [self._bring(it, seqs)] if seqs else []
            except ClipwatchError as error:
                problems.append(f"{it.name}: {error}" if len(todo) > 1 else str(error))
        if problems:
            raise ClipwatchError(f"{self._wanted.tracker}: {'; '.join(dict.fromkeys(problems))}")
        return lines

    def _bring(self, series: Series, seqs: Sequence[int]) -> str:
        """Bring these results of a series batch by batch; return where they are."""
        name, total = self._wanted.tracker, len(seqs)
        if self._wanted.fresh:
            self._console.working(name, f"{series.name}: taking away what is there")
            self._clear(series)
        for done in range(0, total, BATCH):
            told = f"{series.name}: {done} of {total} results"
            self._console.working(name, told, done, total)
            self._batch(series, frozenset(seqs[: done + BATCH]))
        tracker = self._outbox.tracker(name)
        hint = tracker.hint(series)
        return f"{name}: {total} results are in {tracker.where(series)}" + f"; then {hint}" * bool(
            hint
        )

    def _batch(self, series: Series, seqs: frozenset[int]) -> None:
        name = self._wanted.tracker
        for _ in range(TRIES):
            place = self._run.trackers[name].destination
            events = self._outbox.deliver(Destination("tracker", name, place), series, seqs)
            for event in events:
                self._address(event.destination)
                self._projection.record(self._name, self._stream, event)
            failed = [it for it in events if isinstance(it, PublishFailed)]
            if not failed:
                return
            if failed[0].retry_at is None:
                raise ClipwatchError(failed[0].reason)
        raise ClipwatchError(failed[0].reason, fix="call it again to go on")

    def _clear(self, series: Series) -> None:
        tracker = self._outbox.tracker(self._wanted.tracker)
        if not isinstance(tracker, trackers.Clearing):
            fix = "leave --fresh out: what lacks is brought all the same"
            raise ClipwatchError("this adapter cannot write results anew", fix=fix)
        tracker.clear(series)

    def _address(self, place: str) -> None:
        """Write down where everything goes now."""
        changed = addressed(self._run, Destination("tracker", self._wanted.tracker, place))
        self._projection.record(self._name, self._stream, *changed)

    @property
    def _stream(self) -> str:
        return receiver_stream(self._name, "tracker", self._wanted.tracker)

    @property
    def _run(self) -> Run:
        return self._projection.state[self._name]

    @property
    def _outbox(self) -> Outbox:
        def now() -> datetime:
            return datetime.now(UTC)

        return Outbox(self._run, self._settings, trackers.make, now, random.random)
