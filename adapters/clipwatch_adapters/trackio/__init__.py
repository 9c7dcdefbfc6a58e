"""Trackio: each series becomes a run of its own in the trainer's project, in the local store.

A row is known by its evaluation, in Trackio's own unique `log_id`: repeats are harmless. Late steps
are drawn in their places. All of Trackio runs in a child process (see session.py): nothing here
imports it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch_adapters.shared.child import room
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.numbers import FORM, unique
from clipwatch_adapters.shared.rows import config, ids
from clipwatch_adapters.trackio.rows import rows, superseded
from clipwatch_adapters.trackio.session import Job
from clipwatch_adapters.trackio.starting import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipwatch.delivery.trackers import Target
    from clipwatch.results.series import Series
    from clipwatch_adapters.shared.sessions import Outcome
    from clipwatch_adapters.trackio.session import Row

BATCH = 32
"""Results of one session: bounds its memory, its job and what a kill has to repeat."""

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables by which a training logs to a server, and nothing into the local store."""


class TrackioTracker:
    """Publish into Trackio's local store, which its dashboard shows.

    Option: "dir", which goes before TRACKIO_DIR. `patience` bounds publish(), half of it the other
    methods, in seconds.
    """

    needs = "trackio"
    patience = 50.0

    def __init__(self, target: Target) -> None:
        self._target = target

    def destination(self) -> str:
        """Tell the store, the project and the form."""
        return f"{self._folder}, project {self._target.project}, form {FORM}"

    def published(self, series: Series) -> frozenset[int]:
        """Read the run; a result counts when its step shows it or a later one.

        Where a step shows several, as after an older log published there, the earliest of them.
        """
        if not series.results or not self._begun():
            return frozenset()
        shown = frozenset(self._session(self._job(series, self.patience / 2)).shown)
        there: dict[int, int] = {}
        for it in series.results:
            if it.evaluation in shown:
                there.setdefault(it.step, it.seq if shown.issuperset(ids(it)) else -1)
        return frozenset(it.seq for it in series.results if it.seq <= there.get(it.step, -1))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring what stands at its step, in sessions of BATCH; what stood there before goes."""
        deadline = time.monotonic() + self.patience
        standing = {it.step: it for it in series.results}
        steps = {series.results[seq].step for seq in missing}
        todo = [it for it in standing.values() if it.step in steps]
        for first in range(0, len(todo), BATCH):
            left = deadline - time.monotonic()
            if left < self.patience / 2:
                raise TrackerUnavailable("Trackio takes its time: the other results follow")
            some = todo[first : first + BATCH]
            self._session(
                self._job(series, left, rows(series, some), superseded(series.results, some))
            )

    def clear(self, series: Series) -> None:
        """Remove the run; its image files stay, and have the same names when it is back."""
        if self._begun():
            self._session(self._job(series, self.patience / 2, clear=True))

    def where(self, series: Series) -> str:
        """Return the project's file in the store, and which of its runs."""
        return f"{self._file}#{self._name(series)}"

    def hint(self, series: Series) -> str:  # noqa: ARG002 - as a Tracker
        """Return the command that shows the dashboard."""
        command = f"trackio show --project {shlex.quote(self._target.project)}"
        if self._folder == _usual():
            return command
        return f"TRACKIO_DIR={shlex.quote(str(self._folder))} {command}"

    @property
    def _folder(self) -> Path:
        """The store, where Trackio itself looks for it unless the option says otherwise.

        Raises:
            TrackerRefused: The training logs to a server.
        """
        if own := self._target.options.get("dir"):
            return self._target.working_dir / Path(own).expanduser()
        for name in ELSEWHERE:
            if os.environ.get(name):
                raise TrackerRefused(
                    f"{name} is set, and clipwatch publishes to Trackio's local store alone",
                    fix="unset it for clipwatch, or name a store: "
                    '"clipwatch": {"trackio": {"dir": "..."}}',
                )
        named = os.environ.get("TRACKIO_DIR")
        return self._target.working_dir / named if named else _usual()

    @property
    def _file(self) -> Path:
        """The project's database, called as trackio.utils.canonical_project_name does."""
        kept = "".join(it for it in self._target.project if it.isalnum() or it in "-_")
        return self._folder / f"{kept or 'default'}.db"

    def _begun(self) -> bool:
        with plain_errors("Trackio", self._folder):
            return self._file.exists()

    def _name(self, series: Series) -> str:
        (word,) = unique([self._target.run_name]).values()
        return f"{word}-{series.name}"

    def _job(
        self,
        series: Series,
        seconds: float,
        rows: tuple[Row, ...] = (),
        stale: tuple[str, ...] = (),
        *,
        clear: bool = False,
    ) -> Job:
        facts = (str(self._target.first_dir), series.run, series.digest, str(FORM))
        return Job(
            project=self._target.project,
            run="cw-" + hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16],
            name=self._name(series),
            trainer=self._target.run_name,
            config=config(series),
            rows=rows,
            stale=stale,
            clear=clear,
            seconds=seconds,
        )

    def _session(self, job: Job) -> Outcome:
        if job.rows or job.clear:
            with room("Trackio", self._target.state_dir) as log:
                return run(job, self._folder, log)
        return run(job, self._folder, subprocess.DEVNULL)


def _usual() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME, "trackio")
