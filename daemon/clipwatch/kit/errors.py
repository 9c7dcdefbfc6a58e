"""What can go wrong, in names that say what happened; each text is one line to act on."""

from __future__ import annotations

from pathlib import Path


class ClipwatchError(Exception):
    """The root: the command ends with this one line and `exit_code`, never with a traceback.

    Its text is both of its parts with ": " between them.

    Args:
        problem: What is wrong, and where.
        fix: What to do, "" where that goes without saying.
    """

    exit_code = 1

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(f"{problem}: {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


class SettingsError(ClipwatchError):
    """The configuration or the call is wrong: nothing was started.

    Args:
        problem: What is wrong.
        fix: What to do, "" where that goes without saying.
        file: The file it stands in.
        line: Its line there, counted from 1.
        key: The key as the user wrote it.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        fix: str = "",
        file: Path | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        where = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(f"{where}{key + ': ' if key else ''}{problem}", fix=fix)


class JournalError(ClipwatchError):
    """The log cannot be opened, read or written."""


class DiskFull(JournalError):  # noqa: N818 - says what happened
    """There is no space for the log just now; nothing was added to it."""


class LogLocked(JournalError):  # noqa: N818 - says what happened
    """Another program keeps the log locked; nothing was added to it."""


class NoDescriptor(JournalError):  # noqa: N818 - says what happened
    """This process can open no file any more, of which the log knows nothing."""


class Conflict(JournalError):  # noqa: N818 - the established name for it
    """Somebody else appended to the stream first: fold again, then decide again."""


class CheckpointError(ClipwatchError):
    """This checkpoint cannot be evaluated as it is."""


class TrackerUnavailable(ClipwatchError):  # noqa: N818 - says what happened
    """The tracker cannot be reached just now: try again later."""


class TrackerRefused(ClipwatchError):  # noqa: N818 - says what happened
    """The tracker will not take it until somebody changes a setting, a credential or a folder."""
