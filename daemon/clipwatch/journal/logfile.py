"""The log's file on the disk: made private, opened with care, its troubles told in one line."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from clipwatch.journal import wal
from clipwatch.journal.logformat import LogDamaged
from clipwatch.kit.errors import DiskFull, JournalError, LogLocked, NoDescriptor
from clipwatch.kit.filesystems import make_private

_PAGE = 4096
_NEEDED = 3
"""Files that SQLite opens for a log: itself, the -wal and the -shm."""
_CODES = {
    errno.ENOSPC: "FULL",
    errno.EDQUOT: "FULL",
    errno.EMFILE: "NOFD",
    errno.ENFILE: "NOFD",
}

_NO_MORE = "its disk takes no more, as when a quota is full"
_FULL = {"FULL": "the disk is full", "IOERR_WRITE": _NO_MORE, "IOERR_FSYNC": _NO_MORE}
"""SQLite knows ENOSPC as full; EDQUOT and all else are errors of a write (os_unix.c, unixWrite)."""

Failure = sqlite3.Error | UnicodeError | OSError
FAILURES = (sqlite3.Error, UnicodeError, OSError)
"""What the use of the file raises: damaged text gets as far as SQLite's own messages."""


def present(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        JournalError: We may not even look.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise explain(path, error) from error
    return True


def create(path: Path) -> None:
    """Make an empty file with its folder, from the first moment only for its owner; or leave it.

    SQLite gives the files that it makes beside it the same mode.
    """
    make_private(path.parent)
    # an existing one is not even opened: closing it would drop the locks this process has on it
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def check(path: Path) -> None:
    """Refuse what SQLite would hang on, or would destroy by opening it.

    Raises:
        JournalError: It is no regular file.
        LogDamaged: It is empty or gone, but its -wal is not.
    """
    log = wal.beside(path)
    pending = _size(log)  # before the other's: a new log has a header first
    size = _size(path)
    _size(path.with_name(f"{path.name}-shm"))
    if not size and pending:  # SQLite would delete it
        raise LogDamaged(path, f"is empty, but {log.name} beside it is not")


def _size(path: Path) -> int | None:
    """Return the bytes of a file, None if there is none; of a link SQLite keeps the -wal elsewhere.

    Raises:
        JournalError: It is no regular file.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise JournalError(f"{path}: is no regular file", fix="choose another --state-dir")
    return found.st_size


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a database for reading, beside its writers or where nothing can be written.

    Without a -wal beside it nobody has it open: it is then read without making SQLite's -shm.
    One that is only half made is read as an empty one.
    """
    pending = _size(wal.beside(path))
    if (pending or 0) <= wal.HEADER and _half_made(path):
        return sqlite3.connect(":memory:")
    still = "&immutable=1" if pending is None else ""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{still}", uri=True)


def _half_made(path: Path) -> bool:
    """Whether a power cut came as it was made, which SQLite undoes, or somebody just makes it.

    Only then is a rollback journal beside it; its one page may be torn.
    """
    made = _size(path.with_name(f"{path.name}-journal"))
    return bool(made) and (_size(path) or 0) <= _PAGE


def explain(path: Path, error: Failure) -> JournalError:
    """Return what a failure means to a user, in one line."""
    if isinstance(error, UnicodeEncodeError):
        return JournalError(f"{path}: cannot hold a name that is no UTF-8: {error.object!r}")
    code, what = _reason(error)
    if code in _FULL:
        return DiskFull(f"{path}: {_FULL[code]}")
    # `clipwatch compact` had it, and has put another one in its place: that is to be opened
    match "BUSY" if code == "READONLY_DBMOVED" else code.split("_")[0]:
        case "CORRUPT" | "NOTADB":
            return LogDamaged(path, what)
        case "NOFD":
            return NoDescriptor(
                f"{path}: this process has no file descriptor left to open it",
                fix="raise its limit (ulimit -n, or LimitNOFILE of its service)",
            )
        case "READONLY" | "CANTOPEN" | "PERM":
            fix = (
                "make the file and its folder writable for the user who runs "
                "clipwatch, or choose another --state-dir"
            )
        case "BUSY" | "LOCKED" | "PROTOCOL":
            return LogLocked(f"{path}: another program keeps it locked", fix="close that program")
        case _:
            what, fix = f"{what} ({code})", ""
    return JournalError(f"{path}: {what}", fix=fix)


def _reason(error: sqlite3.Error | UnicodeError | OSError) -> tuple[str, str]:
    """Return SQLite's code, or the one it would have, and a text."""
    if isinstance(error, OSError):
        return _CODES.get(error.errno or 0, "CANTOPEN"), str(error.strerror)
    code = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_")
    if not code:  # Python's own complaint, which would quote all of the text
        return "CORRUPT", "its text is no UTF-8"
    if code == "IOERR_SHMSIZE":  # the -shm, of 32 KiB, found no place
        code = "FULL"
    if code.startswith("CANTOPEN") and _exhausted():  # it does not tell why it cannot
        code = "NOFD"
    return code, str(error)


def _exhausted() -> bool:
    """Whether the process, or the system, has fewer descriptors left than SQLite needs."""
    with ExitStack() as held:
        try:
            for _ in range(_NEEDED):
                held.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
