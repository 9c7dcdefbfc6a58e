"""Sessions that tell which rows are shown, of libraries that leave threads and files behind."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TypeVar

from clipwatch.kit.processes import importing
from clipwatch_adapters.shared import child

LENGTH = 300
"""Characters that are kept of a library's texts."""

_Job = TypeVar("_Job", bound=child.Job)


class Outcome(child.Outcome, frozen=True):
    """How it went; of a session that asked a server, which rows it has `shown` at `url`."""

    shown: tuple[str, ...] = ()
    url: str = ""


def run(
    tracker: str, module: str, job: child.Job, own: Mapping[str, str], log: IO[bytes] | int
) -> Outcome:
    """Run a child on the job, see child.run.

    It works in a folder of its own, which is gone with it, so that nothing is found or left
    elsewhere. `own` is what it sees beside everybody's surroundings.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome.
    """
    given = {name: value for name, value in own.items() if value}
    environ = child.environment(os.environ, "") | given
    with TemporaryDirectory(prefix="clipwatch-", ignore_cleanup_errors=True) as folder:
        return child.run(tracker, module, job, Outcome, environ, Path(folder), log)


def serve(
    kind: type[_Job],
    perform: Callable[[_Job], Outcome],
    explain: Callable[[Exception, _Job], Outcome],
) -> None:
    """Perform the job on standard input, in the child, and end the process.

    So it ends also where a library's threads would go on.
    """

    def performed(job: _Job) -> Outcome:
        try:
            with importing():
                return perform(job)
        except Exception as error:  # noqa: BLE001 - every error becomes an outcome
            return explain(error, job)

    child.serve(kind, performed)
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
