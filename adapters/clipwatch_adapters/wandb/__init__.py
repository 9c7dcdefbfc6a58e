"""Weights & Biases: each series becomes a companion run beside the trainer's own.

Writing into the trainer's live run would lose the trainer's rows, so clipwatch never does. Rows
are known by their evaluations, so that a log that was lost, or restored from a backup, doubles and
hides none. A row's `_step` is the result's place (see rows.py), which makes repeats harmless;
charts use `clipwatch/step` as x. All of wandb runs in a child process (see session.py): nothing
here imports it.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch_adapters.shared.child import room
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.rows import ids
from clipwatch_adapters.wandb.companion import MODES, Companion
from clipwatch_adapters.wandb.offline import OfflineRuns
from clipwatch_adapters.wandb.rows import places
from clipwatch_adapters.wandb.starting import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

    from clipwatch.delivery.trackers import Target
    from clipwatch.results.series import Series
    from clipwatch_adapters.wandb.outcome import Outcome
    from clipwatch_adapters.wandb.session import Job

BATCH = 16
"""Results of one session: bounds its memory, its job and what a kill has to repeat."""


class WandbTracker:
    """Publish to W&B's server, or into offline runs that `wandb sync` uploads later.

    Options: "mode" (online, offline), "entity", "base_url", "api_key"; each goes before its
    WANDB_* variable. `patience` bounds publish(), half of it the other methods, in seconds.
    """

    needs = "wandb"
    patience = 50.0

    def __init__(self, target: Target) -> None:
        self._state_dir, self._known = target.state_dir, target.places
        self._companion = Companion(target)
        self._urls: dict[str, str] = {}
        self._confirmed: dict[str, Outcome] = {}  # by series, how the last session left the run
        self._more: dict[str, tuple[str, ...]] = {}  # by series, what was there of another log

    def destination(self) -> str:
        """Tell server, entity, project, the run that all stands beside, mode and form."""
        return self._companion.destination()

    def published(self, series: Series) -> frozenset[int]:
        """Return the `seq` that the server shows, or that our finished offline runs hold.

        Which rows the server has is told by their evaluations, whoever sent them. Just after a
        publication that is what its session has read in the end: another one costs seconds.
        """
        if not series.results:
            return frozenset()
        if self._companion.mode == "offline":
            return self._written(series)
        shown = frozenset((self._confirmed.pop(series.name, None) or self._read(series)).shown)
        self._note(series, shown)
        return frozenset(it.seq for it in series.results if shown.issuperset(ids(it)))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results in sessions of BATCH, each one confirmed by reading back."""
        if not missing:
            return
        deadline = time.monotonic() + self.patience
        with room("W&B", self._state_dir) as log:
            self._companion.remember_trainer()
            if self._companion.mode == "offline":
                self._write(log, series, missing, deadline)
            else:
                self._send(log, series, missing, deadline)

    def more(self, series: Series) -> Sequence[str]:
        """Return of which evaluations of another log there were rows when they were read."""
        return self._more.get(series.name, ())

    def clear(self, series: Series) -> None:
        """Remove the offline runs; what they held counts as published no more.

        Raises:
            TrackerRefused: Online: the server takes rows back from nobody.
        """
        if self._companion.mode != "offline":
            raise TrackerRefused(
                "W&B keeps the rows that it has: they cannot be written anew",
                fix="another tracker_project_name gets all of them",
            )
        folder = self._companion.folder(series)
        with room("W&B", self._state_dir), plain_errors("W&B", folder):
            self._offline_runs(series).forget()

    def where(self, series: Series) -> str:
        """Return the run's address as W&B reports it, or the folder to give to `wandb sync`."""
        if self._companion.mode == "offline":
            return str(self._companion.folder(series) / "wandb")
        known = self._urls.get(series.name) or self._known.get(series.name, "")
        return known if known.endswith(self._companion.identity(series)) else self._read(series).url

    def hint(self, series: Series) -> str:
        """Return the command that uploads offline runs; "" online, where there is nothing to do."""
        if MODES.get(self._companion.option("mode")) != "offline":
            return ""
        return f"wandb sync {shlex.quote(self.where(series))}"

    def _read(self, series: Series) -> Outcome:
        with (
            plain_errors("W&B", Path(gettempdir())),
            TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ):
            job = self._companion.job(series, (), Path(folder), self.patience / 2)
            return self._session(series, job, subprocess.DEVNULL)

    def _send(
        self, log: IO[bytes], series: Series, missing: Sequence[int], deadline: float
    ) -> None:
        folder = self._companion.folder(series)
        todo = sorted(missing)
        for first in range(0, len(todo), BATCH):
            results = [series.results[seq] for seq in todo[first : first + BATCH]]
            shutil.rmtree(folder, ignore_errors=True)
            job = self._companion.job(series, results, folder, self._left(deadline))
            confirmed = self._session(series, job, log)
        self._confirmed[series.name] = confirmed
        shutil.rmtree(folder, ignore_errors=True)

    def _write(
        self, log: IO[bytes], series: Series, missing: Sequence[int], deadline: float
    ) -> None:
        runs = self._offline_runs(series)
        runs.tidy()
        todo = sorted(set(missing) - self._written(series))
        for first in range(0, len(todo), BATCH):
            results = [series.results[seq] for seq in todo[first : first + BATCH]]
            folder, held = self._companion.folder(series), runs.held()
            job = self._companion.job(series, results, folder, self._left(deadline), held)
            self._session(series, job, log)
            runs.note()
        if not self._written(series).issuperset(missing):
            raise TrackerUnavailable(
                f"W&B left an unfinished run in {self._companion.folder(series)}"
            )

    def _written(self, series: Series) -> frozenset[int]:
        """Return the `seq` that our finished offline runs hold."""
        with plain_errors("W&B", self._companion.folder(series)):
            held = self._offline_runs(series).held()
        self._note(series, held)
        placed = zip(series.results, places(series.results), strict=True)
        there = (it for it, place in placed if it.evaluation in held or place in held)
        return frozenset(it.seq for it in there if held.issuperset(ids(it)[1:]))

    def _note(self, series: Series, rows: Iterable[str | int]) -> None:
        """Note what is there of another log; earlier versions noted places alone."""
        known = {result.evaluation for result in series.results}
        found = {it.partition("+")[0] for it in rows if isinstance(it, str)}  # a later scorer's
        self._more[series.name] = tuple(sorted(found - known))

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left < self.patience / 2:
            raise TrackerUnavailable("W&B takes its time: the other results follow")
        return left

    def _session(self, series: Series, job: Job, log: IO[bytes] | int) -> Outcome:
        outcome = run(job, self._companion.option("base_url"), log)
        self._urls[series.name] = outcome.url
        return outcome

    def _offline_runs(self, series: Series) -> OfflineRuns:
        return OfflineRuns(self._companion.folder(series), self._companion.identity(series))
