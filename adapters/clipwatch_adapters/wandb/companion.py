"""The companion run of a series: what names it, where it goes, and the job that brings rows."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from clipwatch.kit.errors import TrackerRefused
from clipwatch.kit.secrets import masked
from clipwatch_adapters.shared.batches import identity, known
from clipwatch_adapters.shared.disk import plain_errors, read_own, write_private
from clipwatch_adapters.shared.numbers import FORM
from clipwatch_adapters.shared.rows import config
from clipwatch_adapters.wandb.files import trainer_run
from clipwatch_adapters.wandb.offline import OfflineRuns
from clipwatch_adapters.wandb.rows import filled
from clipwatch_adapters.wandb.session import Job
from clipwatch_adapters.wandb.starting import api_key

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from clipwatch.delivery.trackers import Target
    from clipwatch.results.series import Result, Series

MODES: dict[str, Literal["online", "offline"]] = {
    "": "online",
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
}
"""What WANDB_MODE may say here, with W&B's old names."""

_NO_NOTE = (errno.ENOENT, errno.ELOOP, errno.EPERM)
"""No file of ours is there: none at all, or a link, pipe or folder that somebody planted."""


class Companion:
    """What the settings, our environment and the trainer's files say of our runs at W&B.

    Options go before their WANDB_* variables, see WandbTracker.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def destination(self) -> str:
        """Tell server, entity, project, the run that all stands beside, mode and form."""
        server = masked(self.option("base_url").rstrip("/")) or "the default server"
        owner = f"{self.option('entity') or 'the default entity'}/{self._target.project}"
        beside = self.trainer or self._target.run_name
        return f"{server}, {owner}, beside {beside}, {self.mode}, form {FORM}"

    @property
    def mode(self) -> Literal["online", "offline"]:
        """Where rows go.

        Raises:
            TrackerRefused: WANDB_MODE is another word.
        """
        word = self.option("mode")
        if word not in MODES:
            raise TrackerRefused(f"WANDB_MODE is {word!r}", fix="set it to online or offline")
        return MODES[word]

    def option(self, name: str) -> str:
        """Return an option, else its WANDB_* variable, else ""."""
        return self._target.options.get(name) or os.environ.get(f"WANDB_{name.upper()}", "")

    def folder(self, series: Series) -> Path:
        """W&B's own folder: to be kept offline, online only while a session runs."""
        return self._target.state_dir / self.mode / series.name

    def _trainer_file(self) -> Path:
        return self._target.state_dir / "trainer-run.json"

    @property
    def trainer(self) -> str:
        """Return the id of the trainer's run: the remembered one, else what its files say now.

        Raises:
            TrackerRefused, TrackerUnavailable: What is remembered cannot be read: it must not be
                guessed, as all rows would begin again in another run.
        """
        with plain_errors("W&B", file := self._trainer_file()):
            project, found = "", ""
            try:
                project, found = msgspec.json.decode(read_own(file), type=tuple[str, str])
            except ValueError:  # it is damaged
                pass
            except OSError as error:
                if error.errno not in _NO_NOTE:
                    raise
        if project == self._target.project:
            return found
        root = Path(os.environ.get("WANDB_DIR") or self._target.working_dir)
        return trainer_run(root / "wandb", self._target.project)

    def remember_trainer(self) -> None:
        """Keep to the first trainer's run: a restarted trainer must not split the curve."""
        noted = msgspec.json.encode((self._target.project, self.trainer))
        write_private(self._trainer_file(), noted, lasting=True)

    def identity(self, series: Series) -> str:
        """Return the companion run's id: the same after any restart, and for any log of the run.

        The run's path when it began and its name are in it: a training that was begun where another
        one was moved away is another. So is the protocol, as rows of two are not comparable, and
        the form, as rows cannot be renamed. Offline the log is, by what it scored first: a later
        `wandb sync` adds rows once more to a run that has them from elsewhere. A run that an
        earlier version began goes on.
        """
        # not results[0]: weights that came back are last
        first = sorted(series.results, key=lambda it: it.finished)[:1]
        earlier = self._id(
            str(self._target.first_dir),
            series.name,
            str(FORM),
            *(result.evaluation for result in first),
            *(["offline"] if self.mode == "offline" else []),
        )
        if self._target.places.get(series.name, "").endswith(earlier):
            return earlier
        if self.mode == "offline" and OfflineRuns(self.folder(series), earlier).held():
            return earlier
        facts = (str(self._target.first_dir), series.run, series.digest, str(FORM))
        if self.mode == "online":
            return self._id(*facts)

        def named(first: Result | None) -> str:
            log = [f"{first.evaluation} {first.finished.isoformat()}"] if first else []
            return self._id(*facts, "offline", *log)

        return identity(series, known(self.folder(series), "wandb"), named)

    def _id(self, *facts: str) -> str:
        where = (
            self.option("base_url").rstrip("/"),
            self.option("entity"),
            self._target.project,
            self.trainer or self._target.run_name,
        )
        return "cw-" + hashlib.sha256("\0".join((*where, *facts)).encode()).hexdigest()[:16]

    def job(
        self,
        series: Series,
        results: Sequence[Result],
        folder: Path,
        seconds: float,
        held: Container[str | int] = (),
    ) -> Job:
        """Return what brings the results, but for rows that are `held`; without any it reads."""
        mode, trainer = self.mode, self.trainer
        job = Job(
            mode=mode,
            key="" if mode == "offline" else api_key(self._target.options, os.environ),
            entity=self.option("entity"),
            project=self._target.project,
            id=self.identity(series),
            name=f"{self._target.run_name} / {series.name}",
            group=trainer or self._target.run_name,
            config=config(series),
            folder=str(folder),
            seconds=seconds,
            trainer=trainer,
        )
        return filled(job, series, results, held) if results else job
