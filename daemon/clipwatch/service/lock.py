"""One daemon for each run; others may use the same state directory for other runs."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.ownfiles import open_own


@contextmanager
def exclusive(
    state_dir: Path,
    run: str,
    fix: str = "leave it to that one, or stop it first",
    doing: str = "watched",
) -> Iterator[None]:
    """Hold a run in a state directory; the kernel lets go of it however the process ends.

    Args:
        state_dir: Made if it is not there.
        run: The run's name.
        fix: What to do where another one holds it.
        doing: What is done with it: whoever does something else holds it beside us.

    Raises:
        ClipwatchError: Another process holds it (the text says which, since when), or the disk of
            the state directory is full.
        SettingsError: The state directory cannot be made or written.
    """
    path = state_dir / (f"{run}.lock" if doing == "watched" else f"{run}.{doing}.lock")
    try:
        make_private(state_dir)
        number = open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        reason = f"the state directory {state_dir} cannot be made or written ({error.strerror})"
        # a full disk gets free again, so that one is worth another start
        kind = ClipwatchError if error.errno in (errno.ENOSPC, errno.EDQUOT) else SettingsError
        raise kind(reason, fix="choose another with --state-dir") from error
    with os.fdopen(number, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ClipwatchError(f"{run} is already {doing} by {holder}", fix=fix) from error
        file.truncate(0)
        file.write(f"clipwatch with pid {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        file.flush()
        yield
        file.truncate(0)
