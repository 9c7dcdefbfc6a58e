"""MLflow: the numbers stand in the trainer's own run, where that can be told for sure.

MLflow takes points of any step from any process, so two writers in one run lose nothing. What
cannot stand there (another protocol, a run that is not to be found) gets a companion run, nested
below the trainer's. A run of ours is known by a tag that it bears, and a result by its point: so
nothing is remembered here, and a log that was lost goes on where it was. All of mlflow runs in a
child process (see session.py): nothing here imports it.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from clipwatch.kit.errors import TrackerUnavailable
from clipwatch_adapters.mlflow.destination import Destination
from clipwatch_adapters.mlflow.outcome import Outcome
from clipwatch_adapters.mlflow.rows import job
from clipwatch_adapters.shared.child import room, run
from clipwatch_adapters.shared.disk import plain_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from clipwatch.delivery.trackers import Target
    from clipwatch.results.series import Series
    from clipwatch_adapters.mlflow.job import Job

BATCH = 48
"""Results of one session: bounds its memory and its job."""


class MlflowTracker:
    """Publish to an MLflow server, or into the database that MLflow keeps without one.

    Options: "tracking_uri", "experiment", "run_id"; each goes before its MLFLOW_* variable.
    `patience` bounds publish() and clear(), half of it the other methods, in seconds.
    """

    needs = "mlflow"
    patience = 50.0

    def __init__(self, target: Target) -> None:
        self._state_dir = target.state_dir
        self._to = Destination.of(target)
        self._found: dict[str, Outcome] = {}  # by series, what the last session told

    def destination(self) -> str:
        """Tell server, experiment, the run that all stands in or beside, and form."""
        return self._to.told()

    def published(self, series: Series) -> frozenset[int]:
        """Return the `seq` whose points the run shows, or a later one's at their steps."""
        return frozenset(self._read(series).shown)

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results in sessions of BATCH, each one confirmed by reading back."""
        deadline = time.monotonic() + self.patience
        todo = sorted(missing)
        for first in range(0, len(todo), BATCH):
            left = deadline - time.monotonic()
            if left < self.patience / 4:
                raise TrackerUnavailable("MLflow takes its time: the other results follow")
            results = [series.results[seq] for seq in todo[first : first + BATCH]]
            with room("MLflow", self._state_dir) as log:
                self._session(series, job(self._to, series, results, "publish", left), log)

    def clear(self, series: Series) -> None:
        """Delete our companion run: MLflow keeps it as deleted, until its `mlflow gc`.

        Raises:
            TrackerRefused: The results stand in the trainer's run, out of which MLflow takes none.
        """
        with room("MLflow", self._state_dir) as log:
            self._session(series, job(self._to, series, (), "clear", self.patience), log)

    def where(self, series: Series) -> str:
        """Return the address of the trainer's run, or of the list that has the companion alone.

        MLflow names a run when it makes it, so that is the one address known before.
        """
        return self._to.where(series, self._found.get(series.name) or self._read(series))

    def hint(self, series: Series) -> str:  # noqa: ARG002 - as a Tracker
        """Return the command that shows a database of this machine; a server shows itself."""
        uri = shlex.quote(self._to.uri)
        return f"mlflow ui --backend-store-uri {uri}" if self._to.local else ""

    def _read(self, series: Series) -> Outcome:
        wanted = job(self._to, series, (), "read", self.patience / 2)
        return self._session(series, wanted, subprocess.DEVNULL)

    def _session(self, series: Series, wanted: Job, log: IO[bytes] | int) -> Outcome:
        """Run a child; without a server, MLflow works in the trainer's working directory."""
        with (
            plain_errors("MLflow", Path(gettempdir())),
            TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ):
            # what MLflow keeps on this machine is the trainer's too, with the trainer's modes
            place, umask = (self._to.working_dir, -1) if self._to.local else (Path(folder), 0o077)
            environ = self._to.environment(wanted.seconds)
            found = run(
                *("MLflow", "clipwatch_adapters.mlflow", wanted, Outcome, environ),
                *(place, log, umask),
            )
        self._found[series.name] = found
        return found
