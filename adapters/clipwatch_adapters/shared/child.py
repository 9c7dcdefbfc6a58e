"""A session with a tracker's package in a process of its own: `python -m` a module of the adapter.

So the daemon stays small, whatever the package imports, and a package that hangs, prints or leaves
threads behind ends with its session. A job comes as JSON on standard input, one outcome goes as
JSON to standard output.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal, Protocol, TypeVar

import msgspec

from clipwatch.kit.decoding import decoder
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.processes import end_with_parent
from clipwatch_adapters.shared.disk import plain_errors, private

GRACE = 5.0
"""Seconds that a session may take longer than its job before it is killed."""

LOGIN = re.compile(rb"://[^/\s\"@]*@")
"""Name and password in an address, which may be one that the log or a person is told."""

SURROUNDINGS = (
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|NETRC"
    r"|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(?i:(https?|all|no)_proxy)"
)
"""The names in our environment that every session may see."""


class Job(Protocol):
    """What a session is to do within `seconds`."""

    @property
    def seconds(self) -> float:
        """How long it may take."""


class Outcome(msgspec.Struct, frozen=True):
    """How it went; `reason` says what is wrong, and `fix` what to do about a refusal."""

    kind: Literal["ok", "unavailable", "refused"]
    reason: str = ""
    fix: str = ""


Found = TypeVar("Found", bound=Outcome)
Task = TypeVar("Task", bound=Job)


def environment(environ: Mapping[str, str], own: str) -> dict[str, str]:
    """Return what a session may inherit: what is everybody's, and the names of a pattern.

    The trainer's variables that speak of its own run are not among them.
    """
    kept = re.compile(f"{SURROUNDINGS}|{own}" if own else SURROUNDINGS)
    return {name: value for name, value in environ.items() if kept.fullmatch(name)}


@contextmanager
def room(tracker: str, folder: Path) -> Iterator[IO[bytes]]:
    """Open the log of publishing sessions, which is their lock too.

    A child inherits it as its standard error, so it stays locked until the last process of an
    earlier session is gone, even one whose daemon was killed.
    """
    with plain_errors(tracker, folder):
        make_private(folder)
        with open(folder / "session.log", "a+b", opener=private) as log:
            _lock(tracker, log)
            log.truncate(0)
            try:
                yield log
            finally:
                _without_logins(log)


def run(
    tracker: str,
    module: str,
    job: Job,
    answered: type[Found],
    environ: Mapping[str, str],
    folder: Path,
    log: IO[bytes] | int,
    umask: int = 0o077,
) -> Found:
    """Run a child on the job; it is gone `job.seconds` and a little later at the latest.

    It gets all that is secret by its job or its environment, hence it stands in no arguments.

    Args:
        tracker: What people call it.
        module: Its module is started.
        job: As JSON on its standard input.
        answered: What it answers.
        environ: All of its environment, but for TMPDIR.
        folder: Where it works.
        log: Its standard error.
        umask: Who else may read what it writes; -1 for as we may.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    with (
        # what a killed session leaves behind goes with it; a socket in it needs a short name
        TemporaryDirectory(prefix="clipwatch-", ignore_cleanup_errors=True) as temporary,
        subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={**environ, "TMPDIR": temporary},
            start_new_session=True,
            umask=umask,
        ) as process,
    ):
        try:
            answer, _ = process.communicate(msgspec.json.encode(job), job.seconds + GRACE)
        except subprocess.TimeoutExpired as late:
            answer = late.stdout or b""
        finally:
            if process.poll() is None:  # what it started ends by itself when its parent is gone
                os.killpg(process.pid, signal.SIGKILL)
    try:
        outcome: Found = decoder(answered).decode(answer)
    except ValueError as error:
        raise TrackerUnavailable(
            f"the {tracker} session ended with {process.returncode} and no answer;"
            f" it had {job.seconds + GRACE:.0f} s"
        ) from error
    if outcome.kind == "refused":
        raise TrackerRefused(outcome.reason, fix=outcome.fix)
    if outcome.kind == "unavailable":
        raise TrackerUnavailable(outcome.reason)
    return outcome


def serve(kind: type[Task], perform: Callable[[Task], Outcome]) -> None:
    """Perform the job on standard input, in the child; whatever it prints goes to standard error.

    Args:
        kind: Of the job.
        perform: Returns what came of it, errors too.
    """
    end_with_parent()
    answer = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    # kills us even if the package hangs in C and nobody is left to do it
    signal.setitimer(signal.ITIMER_REAL, job.seconds + GRACE)
    outcome = perform(job)
    with os.fdopen(answer, "wb") as out:
        out.write(LOGIN.sub(rb"://", msgspec.json.encode(outcome)))


def _without_logins(log: IO[bytes]) -> None:
    """Take the logins out of addresses: packages tell the server's as it is."""
    log.seek(0)
    said = log.read()
    told = LOGIN.sub(b"://", said)
    if told != said:
        log.truncate(0)
        log.write(told)


def _lock(tracker: str, log: IO[bytes]) -> None:
    for _ in range(round(10 * GRACE)):
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
    raise TrackerUnavailable(f"an earlier {tracker} session has not ended yet")
