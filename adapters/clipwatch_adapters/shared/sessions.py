"""Sessions with a tracker's own library, each in a child process: it may hang, print or crash.

A job goes as JSON to standard input, an outcome comes as JSON from standard output. The child may
be killed at any point; whatever it prints goes to a log that is its lock, too.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal, TypeVar

import msgspec

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.processes import end_with_parent, importing
from clipwatch_adapters.shared.disk import plain_errors, private

GRACE = 5.0
"""Seconds that a session may take longer than its job before it is killed."""

KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|PYTHONPATH|LD_LIBRARY_PATH|NETRC"
    r"|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(?i:(https?|all|no)_proxy)"
)
"""The names in our environment that any session may see; nothing there speaks of the trainer."""

LENGTH = 300
"""Characters that are kept of a library's texts."""

_Job = TypeVar("_Job", bound=msgspec.Struct)


class Outcome(msgspec.Struct, frozen=True):
    """How it went; of a session that asked a server, which rows it `shown` has at `url`.

    `reason` says what is wrong, and `fix` what to do about a refusal.
    """

    kind: Literal["ok", "unavailable", "refused"]
    reason: str = ""
    fix: str = ""
    shown: tuple[str, ...] = ()
    url: str = ""


@contextmanager
def room(tracker: str, folder: Path) -> Iterator[IO[bytes]]:
    """Open the log of a tracker's sessions, which is their lock, too.

    A child inherits it as its standard error. So it stays locked until an earlier one is gone, even
    one whose daemon was killed.
    """
    with plain_errors(tracker, folder):
        make_private(folder)
        with open(folder / "session.log", "a+b", opener=private) as log:
            _lock(tracker, log)
            log.truncate(0)
            yield log


def _lock(tracker: str, log: IO[bytes]) -> None:
    for _ in range(round(10 * GRACE)):
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
    raise TrackerUnavailable(f"an earlier {tracker} session has not ended yet")


def run(
    tracker: str,
    module: str,
    job: msgspec.Struct,
    seconds: float,
    environ: Mapping[str, str],
    log: IO[bytes] | int,
) -> Outcome:
    """Run a child on the job; it is gone `seconds` and a little later at the latest.

    Its keys come by the job, hence stand in no process's arguments or environment. It works in a
    folder of its own, which is gone with it, so that nothing is found or left anywhere else.

    Args:
        tracker: As people call it.
        module: Of the child, which calls `serve`.
        job: What it has to do.
        seconds: That it has.
        environ: What it sees beside what is `KEPT`.
        log: Where it prints.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    with TemporaryDirectory(prefix="clipwatch-", ignore_cleanup_errors=True) as folder:
        own = {name: value for name, value in environ.items() if value}
        with subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=kept(os.environ) | {"TMPDIR": folder} | own,
            start_new_session=True,
            umask=0o077,
        ) as process:
            try:
                answer, _ = process.communicate(msgspec.json.encode(job), seconds + GRACE)
            except subprocess.TimeoutExpired as late:
                answer = late.stdout or b""
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    try:
        outcome = msgspec.json.decode(answer, type=Outcome)
    except ValueError as error:
        raise TrackerUnavailable(
            f"the {tracker} session ended with {process.returncode} and no answer;"
            f" it had {seconds + GRACE:.0f} s"
        ) from error
    if outcome.kind == "refused":
        raise TrackerRefused(outcome.reason, fix=outcome.fix)
    if outcome.kind == "unavailable":
        raise TrackerUnavailable(outcome.reason)
    return outcome


def kept(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what any session may inherit."""
    return {name: value for name, value in environ.items() if KEPT.fullmatch(name)}


def serve(
    kind: type[_Job],
    seconds: Callable[[_Job], float],
    perform: Callable[[_Job], Outcome],
    explain: Callable[[Exception, _Job], Outcome],
) -> None:
    """Perform the job on standard input, in the child; whatever else is printed is no answer.

    The process ends here, also where a library's threads would go on.
    """
    end_with_parent()
    answer = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    # kills us even if the library hangs in C and nobody is left to do it
    signal.setitimer(signal.ITIMER_REAL, seconds(job) + GRACE)
    try:
        with importing():
            outcome = perform(job)
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome
        outcome = explain(error, job)
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.json.encode(outcome))
    sys.stderr.flush()
    os._exit(0)


def one_line(error: Exception, *secrets: str) -> str:
    """Return what an error says, in one line that holds no secret and no login."""
    text = ""
    with suppress(Exception):  # some of theirs cannot be told as text
        text = " ".join(f"{error}".split())
    text = text or type(error).__name__
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    text = re.sub(r"://[^/\s\"@]*@", "://", text)
    return text[:LENGTH]


def kinds(error: BaseException | None) -> frozenset[str]:
    """Return the names of the classes of an error and of those that it came from."""
    found: set[str] = set()
    while error is not None:
        found |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return frozenset(found)
