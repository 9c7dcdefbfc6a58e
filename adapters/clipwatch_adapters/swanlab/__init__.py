"""SwanLab: each series becomes runs of files that `swanlab sync` brings to one run of its own.

All of SwanLab's package runs in a child process (see session.py): nothing here imports it. A
session takes a step of a key once: what comes again stands in a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.results.series import Result, Series
from clipwatch_adapters.shared.batches import Batches, identity, known
from clipwatch_adapters.shared.child import room
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.numbers import FORM
from clipwatch_adapters.shared.rows import config
from clipwatch_adapters.shared.sessions import run
from clipwatch_adapters.shared.told import rows, shown
from clipwatch_adapters.swanlab.files import held, points
from clipwatch_adapters.swanlab.session import Job

BATCH = 40
"""Results of one session: bounds its memory, its job and what a kill has to repeat."""


class SwanlabTracker:
    """Publish into runs of files that `swanlab sync` uploads later.

    Option: "workspace", before SWANLAB_WORKSPACE. `patience` bounds publish(), in seconds.
    """

    needs = "swanlab"
    patience = 50.0

    def __init__(self, target: Target) -> None:
        self._target = target

    def destination(self) -> str:
        """Tell workspace, project, the run that all stands beside, and form."""
        owner = f"{self._workspace or 'the default workspace'}/{self._target.project}"
        return f"{owner}, beside {self._target.run_name}, offline, form {FORM}"

    def published(self, series: Series) -> frozenset[int]:
        """Return the `seq` that finished runs hold."""
        if not series.results:
            return frozenset()
        with plain_errors("SwanLab", self._folder(series)):
            return shown(series, self._batches(series).held())

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write the missing results in sessions of BATCH, each one confirmed by reading back."""
        deadline = time.monotonic() + self.patience
        with room("SwanLab", self._target.state_dir) as log:
            todo = sorted(set(missing) - self.published(series))
            for batch in sessions(series.results[seq] for seq in todo):
                left = deadline - time.monotonic()
                if left < self.patience / 2:
                    raise TrackerUnavailable("SwanLab takes its time: the other results follow")
                self._write(log, series, batch, left)

    def clear(self, series: Series) -> None:
        """Remove the runs; what they held counts as published no more."""
        with room("SwanLab", self._target.state_dir):
            self._batches(series).forget()

    def where(self, series: Series) -> str:
        """Return the folder with the runs."""
        return str(self._folder(series))

    def hint(self, series: Series) -> str:
        """Return the command that uploads the runs, all into one; "" while there is none."""
        if not series.results:
            return ""
        folder, own = shlex.quote(self.where(series)), self._id(series)
        sync = f'swanlab sync --id {own} --start-step 0 "$run"'
        return f"for run in {folder}/{own}-*/run-*/; do {sync}; done"

    @property
    def _workspace(self) -> str:
        return self._target.options.get("workspace") or os.environ.get("SWANLAB_WORKSPACE", "")

    def _folder(self, series: Series) -> Path:
        return self._target.state_dir / "offline" / series.name

    def _batches(self, series: Series) -> Batches:
        return Batches("SwanLab", self._folder(series), self._id(series), "", held, points)

    def _id(self, series: Series) -> str:
        """Return the run's id: the same after a restart.

        The log is in it, by its first result: an upload adds to what a run has from elsewhere.
        """
        facts = (
            *(self._workspace, self._target.project, self._target.run_name),
            *(str(self._target.first_dir), series.run, series.digest, str(FORM)),
        )

        def named(first: Result | None) -> str:
            log = (first.evaluation, first.finished.isoformat()) if first else ()
            return "cw" + hashlib.sha256("\0".join((*facts, *log)).encode()).hexdigest()[:16]

        with plain_errors("SwanLab", folder := self._folder(series)):
            return identity(series, known(folder), named)

    def _write(
        self, log: IO[bytes], series: Series, results: Sequence[Result], seconds: float
    ) -> None:
        """Have a run written in its place, which stands in its records."""
        batches = self._batches(series)
        place, its = batches.begin(), rows(series, results, batches.held())
        job = Job(
            folder=str(place),
            workspace=self._workspace,
            project=self._target.project,
            id=self._id(series),
            name=f"{self._target.run_name} / {series.name}",
            group=self._target.run_name,
            config=config(series),
            seconds=seconds,
            rows=its,
        )
        run("SwanLab", "clipwatch_adapters.swanlab", job, {}, log)
        batches.take(place, place, its)


def sessions(results: Iterable[Result]) -> Iterator[list[Result]]:
    """Yield the results of each session: at most BATCH, and no step twice."""
    batch: list[Result] = []
    for result in results:
        if len(batch) == BATCH or any(it.step == result.step for it in batch):
            yield batch
            batch = []
        batch.append(result)
    if batch:
        yield batch
