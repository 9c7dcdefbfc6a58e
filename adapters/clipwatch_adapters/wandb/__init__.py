"""Weights & Biases: each series becomes a companion run beside the trainer's own.

Writing into the trainer's live run would lose the trainer's rows, so clipwatch never does. A row's
`_step` is the result's place (see wandb_rows.py), which makes repeats harmless; charts use
`clipwatch/step` as x. All of wandb runs in a child process (see wandb_session.py): nothing here
imports it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Literal

import msgspec

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.secrets import masked
from clipwatch_adapters.shared.disk import plain_errors, private, write_private
from clipwatch_adapters.shared.numbers import FORM
from clipwatch_adapters.wandb.files import trainer_run
from clipwatch_adapters.wandb.offline import OfflineRuns
from clipwatch_adapters.wandb.rows import config, filled, places
from clipwatch_adapters.wandb.session import GRACE, Job
from clipwatch_adapters.wandb.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

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

BATCH = 16
"""Results of one session: bounds its memory, its job and what a kill has to repeat."""

KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|NETRC"
    r"|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(?i:(https?|all|no)_proxy)"
    r"|WANDB_(BASE_URL|ENTITY|CONFIG_DIR|IDENTITY_TOKEN_FILE|INSECURE_DISABLE_SSL)"
    r"|WANDB_X_EXTRA_HTTP_HEADERS"
)
"""The names in our environment that a session may see."""


class WandbTracker:
    """Publish to W&B's server, or into offline runs that `wandb sync` uploads later.

    Options: "mode" (online, offline), "entity", "base_url", "api_key"; each goes before its
    WANDB_* variable. `patience` bounds publish(), half of it the other methods, in seconds.
    """

    patience = 50.0

    def __init__(self, target: Target) -> None:
        self.target = target
        self._urls: dict[str, str] = {}

    def destination(self) -> str:
        """Tell server, entity, project, the run that all stands beside, mode and form."""
        server = masked(self._option("base_url").rstrip("/")) or "the default server"
        owner = f"{self._option('entity') or 'the default entity'}/{self.target.project}"
        beside = self._trainer() or self.target.run_name
        return f"{server}, {owner}, beside {beside}, {self._mode()}, form {FORM}"

    def published(self, series: Series) -> frozenset[int]:
        """Return the `seq` that the server shows, or that our finished offline runs hold.

        The server is asked for its highest one: rows are sent in order and never with a gap.
        """
        if not series.results:
            return frozenset()
        if self._mode() == "offline":
            return self._written(series)
        return frozenset(range(_count(series, self._read(series).held)))

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Bring the missing results in sessions of BATCH, each one confirmed by reading back.

        The server takes a series in order only: earlier results that it lacks go along.
        """
        if not missing:
            return
        deadline = time.monotonic() + self.patience
        with self._room() as log:
            self._remember_trainer()
            if self._mode() == "offline":
                self._write(log, series, missing, deadline)
            else:
                self._send(log, series, missing, deadline)

    def where(self, series: Series) -> str:
        """Return the run's address as W&B reports it, or the folder to give to `wandb sync`."""
        if self._mode() == "offline":
            return str(self._folder(series) / "wandb")
        known = self._urls.get(series.name, self.target.where)
        return known if known.endswith(self._identity(series)) else self._read(series).url

    def hint(self, series: Series) -> str:
        """Return the command that uploads offline runs; "" online, where there is nothing to do."""
        if MODES.get(self._option("mode")) != "offline":
            return ""
        return f"wandb sync {shlex.quote(self.where(series))}"

    def _read(self, series: Series) -> Verdict:
        with (
            plain_errors("W&B", Path(gettempdir())),
            TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ):
            job = self._job(series, (), Path(folder), self.patience / 2)
            return self._session(series, job, subprocess.DEVNULL)

    def _send(
        self, log: IO[bytes], series: Series, missing: Sequence[int], deadline: float
    ) -> None:
        at, end = min(missing), max(missing) + 1
        folder = self._folder(series)
        while at < end:
            shutil.rmtree(folder, ignore_errors=True)
            job = self._job(series, series.results[at:end][:BATCH], folder, self._left(deadline))
            at = _count(series, self._session(series, job, log).held)
        shutil.rmtree(folder, ignore_errors=True)

    def _write(
        self, log: IO[bytes], series: Series, missing: Sequence[int], deadline: float
    ) -> None:
        runs = self._offline_runs(series)
        runs.tidy()
        todo = sorted(set(missing) - self._written(series))
        for first in range(0, len(todo), BATCH):
            results = [series.results[seq] for seq in todo[first : first + BATCH]]
            job = self._job(series, results, self._folder(series), self._left(deadline))
            self._session(series, job, log)
            runs.note()
        if not self._written(series).issuperset(missing):
            raise TrackerUnavailable(f"W&B left an unfinished run in {self._folder(series)}")

    def _written(self, series: Series) -> frozenset[int]:
        """Return the `seq` that our finished offline runs hold."""
        with plain_errors("W&B", self._folder(series)):
            held = self._offline_runs(series).held()
        return frozenset(seq for seq, place in enumerate(places(series.results)) if place in held)

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left < self.patience / 2:
            raise TrackerUnavailable("W&B takes its time: the other results follow")
        return left

    def _mode(self) -> Literal["online", "offline"]:
        word = self._option("mode")
        if word not in MODES:
            raise TrackerRefused(f"WANDB_MODE is {word!r}", fix="set it to online or offline")
        return MODES[word]

    def _option(self, name: str) -> str:
        return self.target.options.get(name) or os.environ.get(f"WANDB_{name.upper()}", "")

    def _folder(self, series: Series) -> Path:
        """W&B's own folder: to be kept offline, online only while a session runs."""
        return self.target.state_dir / self._mode() / series.name

    def _offline_runs(self, series: Series) -> OfflineRuns:
        return OfflineRuns(self._folder(series), self._identity(series))

    def _trainer_file(self) -> Path:
        return self.target.state_dir / "trainer-run.json"

    def _trainer(self) -> str:
        """Return the id of the trainer's run: the remembered one, else what its files say now."""
        try:
            project, found = msgspec.json.decode(
                self._trainer_file().read_bytes(), type=tuple[str, str]
            )
        except (OSError, ValueError):
            project, found = "", ""
        if project == self.target.project:
            return found
        root = Path(os.environ.get("WANDB_DIR") or self.target.working_dir)
        return trainer_run(root / "wandb", self.target.project)

    def _remember_trainer(self) -> None:
        """Keep to the first trainer's run: a restarted trainer must not split the curve."""
        write_private(
            self._trainer_file(), msgspec.json.encode((self.target.project, self._trainer()))
        )

    def _identity(self, series: Series) -> str:
        """Return the companion run's id: the same after any restart.

        The first evaluation is in it for the day when the log is lost and begun anew, the mode
        because a later `wandb sync` adds its rows once more to a run that has them from elsewhere,
        and the form because rows cannot be renamed.
        """
        facts = (
            self._option("base_url").rstrip("/"),
            self._option("entity"),
            self.target.project,
            self._trainer() or self.target.run_name,
            str(self.target.output_dir),
            series.name,
            str(FORM),
            *(result.evaluation for result in series.results[:1]),
            *(["offline"] if self._mode() == "offline" else []),
        )
        return "cw-" + hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]

    def _job(self, series: Series, results: Sequence[Result], folder: Path, seconds: float) -> Job:
        """Return what brings the results; without any it only reads."""
        mode, trainer = self._mode(), self._trainer()
        job = Job(
            mode=mode,
            key="" if mode == "offline" else api_key(self.target.options, os.environ),
            entity=self._option("entity"),
            project=self.target.project,
            id=self._identity(series),
            name=f"{self.target.run_name} / {series.name}",
            group=trainer or self.target.run_name,
            config=config(series.protocol),
            folder=str(folder),
            seconds=seconds,
            trainer=trainer,
        )
        return filled(job, series, results) if results else job

    @contextmanager
    def _room(self) -> Iterator[IO[bytes]]:
        """Open the log of publishing sessions, which is their lock too.

        The child and wandb-core inherit it as their standard error, so it stays locked until the
        last process of an earlier session is gone, even one whose daemon was killed.
        """
        folder = self.target.state_dir
        with plain_errors("W&B", folder):
            make_private(folder)
            with open(folder / "session.log", "ab", opener=private) as log:
                _lock(log)
                log.truncate(0)
                yield log

    def _session(self, series: Series, job: Job, log: IO[bytes] | int) -> Verdict:
        """Run a child on the job; it is gone `job.seconds` and a little later at the latest.

        It gets the API key by its job, hence no process has it in its arguments or environment.

        Raises:
            TrackerUnavailable, TrackerRefused: Its verdict; no verdict is the former.
        """
        settings = {
            "WANDB_BASE_URL": self._option("base_url"),
            "WANDB_DATA_DIR": job.folder,
            "WANDB_CACHE_DIR": job.folder,
            "WANDB_ARTIFACT_DIR": job.folder,
            "WANDB_ERROR_REPORTING": "false",
        }
        make_private(Path(job.folder))
        own = environment(os.environ) | {name: value for name, value in settings.items() if value}
        with (
            # what a killed session leaves behind goes with it; a socket in it needs a short name
            TemporaryDirectory(prefix="clipwatch-", ignore_cleanup_errors=True) as temporary,
            subprocess.Popen(
                [sys.executable, "-P", "-m", "clipwatch_adapters.wandb.session"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=job.folder,
                env=own | {"TMPDIR": temporary},
                start_new_session=True,
                umask=0o077,
            ) as process,
        ):
            try:
                answer, _ = process.communicate(msgspec.json.encode(job), job.seconds + GRACE)
            except subprocess.TimeoutExpired as late:
                answer = late.stdout or b""
            finally:
                if process.poll() is None:  # wandb-core ends by itself when its parent is gone
                    os.killpg(process.pid, signal.SIGKILL)
        try:
            verdict = msgspec.json.decode(answer, type=Verdict)
        except ValueError as error:
            raise TrackerUnavailable(
                f"the W&B session ended with {process.returncode} and no answer;"
                f" it had {job.seconds + GRACE:.0f} s"
            ) from error
        if verdict.kind == "refused":
            raise TrackerRefused(verdict.reason, fix=verdict.fix)
        if verdict.kind == "unavailable":
            raise TrackerUnavailable(verdict.reason)
        self._urls[series.name] = verdict.url
        return verdict


def _count(series: Series, held: int) -> int:
    """Return how many results of a series have a place before `held`."""
    return sum(place < held for place in places(series.results))


def _lock(log: IO[bytes]) -> None:
    for _ in range(round(10 * GRACE)):
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
    raise TrackerUnavailable("an earlier W&B session has not ended yet")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a session may inherit: nothing that speaks of the trainer's own W&B run."""
    return {name: value for name, value in environ.items() if KEPT.fullmatch(name)}


def api_key(options: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the API key from options, WANDB_API_KEY or a file; "" leaves it to W&B's netrc.

    The file is WANDB_API_KEY_FILE, else the credential wandb-api-key of systemd. One that is empty
    or says "-" holds no key: a service that loads a credential must have one.

    Raises:
        TrackerRefused: WANDB_API_KEY_FILE names a file that cannot be read.
    """
    key = options.get("api_key") or environ.get("WANDB_API_KEY", "")
    if key:
        return key
    named = environ.get("WANDB_API_KEY_FILE")
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(named) if named else Path(credentials or "", "wandb-api-key")
    if not named and not (credentials and file.exists()):
        return ""
    try:
        found = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file}: the W&B API key cannot be read ({error})"
        raise TrackerRefused(message, fix="correct WANDB_API_KEY_FILE or the file") from error
    return "" if found == "-" else found
