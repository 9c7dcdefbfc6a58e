"""Comet: each series becomes an experiment of its own beside the trainer's.

All of Comet's package runs in a child process (see session.py): nothing here imports it. Comet
takes a number twice and shows both. So online only those are sent that it does not show; offline a
batch is one archive, which is whole or not there.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import IO

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.secrets import masked
from clipwatch.results.series import Result, Series
from clipwatch_adapters.comet.archives import held, points
from clipwatch_adapters.comet.outcome import NO_KEY
from clipwatch_adapters.comet.session import Job
from clipwatch_adapters.shared.batches import Batches, identity, known
from clipwatch_adapters.shared.child import room
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.numbers import FORM
from clipwatch_adapters.shared.rows import config
from clipwatch_adapters.shared.sessions import Outcome, run
from clipwatch_adapters.shared.told import Row, outlines, rows, shown

BATCH = 40
"""Results of one session: bounds its memory, its job and what a kill has to repeat."""

OFFLINE = {"": False, "online": False, "offline": True}
"""What the option "mode" may say."""

NO, YES = ("0", "false", "no", "n", "off", "f"), ("1", "true", "yes", "y", "on", "t")

_PASSED = ("COMET_URL_OVERRIDE", "COMET_INTERNAL_CHECK_TLS_CERTIFICATE", "COMET_CONFIG")
"""Of our environment, what tells the server and how it is reached."""

_QUIET = {
    "COMET_HTTP_SESSION_RETRY_TOTAL": "0",
    "COMET_TIMEOUT_HTTP": "8",
    "COMET_TIMEOUT_CLEANING": "20",
    "COMET_TIMEOUT_FILE_UPLOAD": "20",
    "COMET_INTERNAL_REPORTING": "0",
    "COMET_ERROR_TRACKING_ENABLE": "0",
    "COMET_DISABLE_ANNOUNCEMENT": "1",
    "COMET_DISABLE_AUTO_LOGGING": "1",
    "COMET_LOGGING_CONSOLE": "WARNING",
}
"""Bounds on every wait, nothing about us or the machine, and no files in the home folder."""


class CometTracker:
    """Publish to Comet's server, or into archives that `comet upload` sends later.

    Options: "mode" (online, offline), "workspace", "api_key"; each goes before its COMET_*
    variable. `patience` bounds publish(), half of it the other methods, in seconds.
    """

    needs = "comet_ml"
    patience = 50.0

    def __init__(self, target: Target) -> None:
        self._target = target
        self._urls: dict[str, str] = {}

    def destination(self) -> str:
        """Tell server, workspace, project, the run that all stands beside, mode and form."""
        server = masked(os.environ.get("COMET_URL_OVERRIDE", "")) or "the default server"
        owner = f"{self._workspace or 'the default workspace'}/{self._target.project}"
        mode = "offline" if self._offline else "online"
        return f"{server}, {owner}, beside {self._target.run_name}, {mode}, form {FORM}"

    def published(self, series: Series) -> frozenset[int]:
        """Return the `seq` whose numbers the server shows, or that are in whole archives."""
        if not series.results:
            return frozenset()
        if self._offline:
            return self._written(series)
        return shown(series, frozenset(self._ask(series).shown))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results in sessions of BATCH, each one confirmed by reading back."""
        deadline = time.monotonic() + self.patience
        offline = self._offline
        with room("Comet", self._target.state_dir) as log:
            todo = sorted(set(missing) - (self._written(series) if offline else frozenset()))
            for first in range(0, len(todo), BATCH):
                left = deadline - time.monotonic()
                if left < self.patience / 2:
                    raise TrackerUnavailable("Comet takes its time: the other results follow")
                batch = todo[first : first + BATCH]
                if offline:
                    self._write(log, series, batch, left)
                else:
                    self._session(log, self._job(series, self._rows(series, batch), left), series)

    def clear(self, series: Series) -> None:
        """Remove the archives; what they held counts as published no more.

        Raises:
            TrackerRefused: Online: an experiment that was deleted cannot come back by its key.
        """
        if not self._offline:
            raise TrackerRefused(
                "Comet keeps the numbers that it has: they cannot be written anew",
                fix="another tracker_project_name gets all of them",
            )
        with room("Comet", self._target.state_dir):
            self._batches(series).forget()

    def where(self, series: Series) -> str:
        """Return the experiment's address as Comet tells it, or the folder of the archives."""
        if self._offline:
            return str(self._folder(series))
        known = self._urls.get(series.name) or self._target.places.get(series.name, "")
        return known if self._key(series) in known else self._ask(series).url

    def hint(self, series: Series) -> str:
        """Return the command that uploads the archives; "" online, where there is none to do."""
        try:
            offline = self._offline
        except TrackerRefused:
            offline = False
        return f"comet upload {shlex.quote(str(self._folder(series)))}/*.zip" if offline else ""

    @property
    def _workspace(self) -> str:
        return self._target.options.get("workspace") or os.environ.get("COMET_WORKSPACE", "")

    @property
    def _offline(self) -> bool:
        """Whether archives are written: the option, else what COMET_START_ONLINE says.

        Raises:
            TrackerRefused: "mode" is another word.
        """
        mode = self._target.options.get("mode", "") or os.environ.get("COMET_MODE", "")
        if mode not in OFFLINE:
            raise TrackerRefused(
                f"the mode of Comet is {mode!r}", fix="set it to online or offline"
            )
        if mode:
            return OFFLINE[mode]
        return (
            os.environ.get("COMET_START_ONLINE", "").lower() in NO
            or os.environ.get("COMET_OFFLINE", "").lower() in YES
        )

    def _folder(self, series: Series) -> Path:
        return self._target.state_dir / "offline" / series.name

    def _batches(self, series: Series) -> Batches:
        return Batches("Comet", self._folder(series), self._key(series), ".zip", held, points)

    def _written(self, series: Series) -> frozenset[int]:
        folder = self._folder(series)
        with plain_errors("Comet", folder):
            return shown(series, self._batches(series).held())

    def _key(self, series: Series) -> str:
        """Return the experiment's key: the same after a restart, and online for any log of the run.

        Offline the log is in it, by its first result: an upload adds numbers once more to an
        experiment that has them from elsewhere.
        """
        facts = (
            *(os.environ.get("COMET_URL_OVERRIDE", ""), self._workspace, self._target.project),
            *(self._target.run_name, str(self._target.first_dir), series.run, series.digest),
            str(FORM),
        )
        if not self._offline:
            return _hashed(*facts)

        def named(first: Result | None) -> str:
            log = ("offline", first.evaluation, first.finished.isoformat()) if first else ()
            return _hashed(*facts, *log)

        with plain_errors("Comet", folder := self._folder(series)):
            return identity(series, known(folder), named)

    def _rows(self, series: Series, wanted: Sequence[int]) -> tuple[Row, ...]:
        there = self._batches(series).held() if self._offline else frozenset()
        return rows(series, [series.results[seq] for seq in wanted], there)

    def _job(
        self, series: Series, its: tuple[Row, ...], seconds: float, *, send: bool = True
    ) -> Job:
        offline = self._offline
        return Job(
            archives=str(self._fresh(series)) if offline else "",
            key="" if offline else self._api_key(),
            workspace=self._workspace,
            project=self._target.project,
            id=self._key(series),
            name=f"{self._target.run_name} / {series.name}",
            tags=tuple(dict.fromkeys(("clipwatch", self._target.run_name))),
            parameters=config(series),
            others={"trainer run": self._target.run_name, "clipwatch series": series.name},
            seconds=seconds,
            rows=its,
            send=send,
        )

    def _api_key(self) -> str:
        """Return the key; "" leaves it to the files in which Comet looks.

        Raises:
            TrackerRefused: There is none of all these.
        """
        key = self._target.options.get("api_key") or os.environ.get("COMET_API_KEY", "")
        files = (*map(Path, _configs(self._target)), Path.home() / ".comet.config")
        if not key and not any(it.is_file() for it in files):
            raise TrackerRefused("no API key for Comet", fix=NO_KEY)
        return key

    def _write(self, log: IO[bytes], series: Series, batch: Sequence[int], left: float) -> None:
        """Have an archive made beside the others, so that no upload ever meets half of one."""
        batches, fresh = self._batches(series), self._fresh(series)
        place = batches.begin()
        shutil.rmtree(fresh, ignore_errors=True)  # of a session that was killed
        make_private(fresh)
        its = self._rows(series, batch)
        self._session(log, self._job(series, its, left), series)
        made = next(fresh.glob("*.zip"), fresh / "none.zip")
        batches.take(made, place, its)
        shutil.rmtree(fresh, ignore_errors=True)

    def _fresh(self, series: Series) -> Path:
        return self._target.state_dir / "offline" / f".{series.name}.new"

    def _ask(self, series: Series) -> Outcome:
        job = self._job(series, outlines(series), self.patience / 2, send=False)
        with plain_errors("Comet", Path(gettempdir())):
            return self._session(subprocess.DEVNULL, job, series)

    def _session(self, log: IO[bytes] | int, job: Job, series: Series) -> Outcome:
        passed = {name: os.environ.get(name, "") for name in _PASSED}
        for file in _configs(self._target):
            passed["COMET_CONFIG"] = file
        module = "clipwatch_adapters.comet"
        outcome = run("Comet", module, job, _QUIET | passed, log)
        if outcome.url:
            self._urls[series.name] = outcome.url
        return outcome


def _configs(target: Target) -> list[str]:
    """Return Comet's configuration outside of the home folder: the named one, or the training's.

    Comet looks in its working directory, which is not the trainer's in a session.
    """
    named = os.environ.get("COMET_CONFIG", "")
    beside = target.working_dir / ".comet.config"
    return [named] if named else [str(beside)] if beside.is_file() else []


def _hashed(*facts: str) -> str:
    return "cw" + hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]
