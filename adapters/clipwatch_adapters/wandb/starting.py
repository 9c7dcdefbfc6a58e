"""Starts a session with W&B: a child process, its lock, its environment and its key."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

import msgspec

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch_adapters.shared.disk import plain_errors, private
from clipwatch_adapters.wandb.outcome import Outcome
from clipwatch_adapters.wandb.session import GRACE, LOGIN, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|NETRC"
    r"|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(?i:(https?|all|no)_proxy)"
    r"|WANDB_(BASE_URL|ENTITY|CONFIG_DIR|IDENTITY_TOKEN_FILE|INSECURE_DISABLE_SSL)"
    r"|WANDB_X_EXTRA_HTTP_HEADERS"
)
"""The names in our environment that a session may see."""


@contextmanager
def room(folder: Path) -> Iterator[IO[bytes]]:
    """Open the log of publishing sessions, which is their lock too.

    The child and wandb-core inherit it as their standard error, so it stays locked until the
    last process of an earlier session is gone, even one whose daemon was killed.
    """
    with plain_errors("W&B", folder):
        make_private(folder)
        with open(folder / "session.log", "a+b", opener=private) as log:
            _lock(log)
            log.truncate(0)
            try:
                yield log
            finally:
                _without_logins(log)


def run(job: Job, base_url: str, log: IO[bytes] | int) -> Outcome:
    """Run a child on the job; it is gone `job.seconds` and a little later at the latest.

    It gets the API key by its job, hence no process has it in its arguments or environment.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    settings = {
        "WANDB_BASE_URL": base_url,
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
            [sys.executable, "-P", "-m", "clipwatch_adapters.wandb"],
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
        outcome = msgspec.json.decode(answer, type=Outcome)
    except ValueError as error:
        raise TrackerUnavailable(
            f"the W&B session ended with {process.returncode} and no answer;"
            f" it had {job.seconds + GRACE:.0f} s"
        ) from error
    if outcome.kind == "refused":
        raise TrackerRefused(outcome.reason, fix=outcome.fix)
    if outcome.kind == "unavailable":
        raise TrackerUnavailable(outcome.reason)
    return outcome


def _without_logins(log: IO[bytes]) -> None:
    """Take the logins out of addresses: wandb tells the server's as it is."""
    log.seek(0)
    said = log.read()
    told = LOGIN.sub(b"://", said)
    if told != said:
        log.truncate(0)
        log.write(told)


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
