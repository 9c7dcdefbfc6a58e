"""A copy of a log that is a log itself: each call adds what came since the last one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from clipwatch.journal import Journal, log_file
from clipwatch.journal.logformat import EventRow
from clipwatch.kit.errors import ClipwatchError, SettingsError


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a copy has now: how many events, how many of them are new, and when the last one was."""

    path: Path
    events: int
    new: int
    last: datetime | None


def back_up(state_dir: Path, to: Path, until: datetime | None = None) -> BackedUp:
    """Bring a copy of a log up to date, also beside a daemon that writes to it.

    However it ends, the copy is a beginning of the log, and another call goes on.

    Args:
        state_dir: Of the log.
        to: The folder of the copy, which is a state directory, too; made if it is not there.
        until: Copy what was written up to then, with its time zone; None for all.

    Raises:
        SettingsError: `to` is that state directory.
        ClipwatchError: There is no log, the copy is none of this log, or it goes beyond `until`.
        JournalError: One of the two cannot be read or written, or is damaged.
    """
    source, target = log_file(state_dir), log_file(to)
    if not source.exists():
        raise ClipwatchError(f"there is no log in {state_dir}", fix="name its folder, --state-dir")
    if target.exists() and target.samefile(source):
        raise SettingsError(f"{to} holds the log itself", fix="name another folder")
    with Journal(source, read_only=True) as log, Journal(target) as copy:
        before = copy.last()
        if before:
            _refuse_another(log, copy, before)
        if before and until and _time(_content(copy, before)) > until:
            told = f"{target}: has events from after {until.isoformat()}"
            raise ClipwatchError(told, fix="name an empty folder")
        if not copy.known:  # nobody vouches for it
            copy.known = sum(map(len, copy.pages()))
        for page in log.pages(before):
            rows = list(_up_to(page, until))
            if rows:
                copy.copy(rows, log.written_as())
                copy.known = rows[-1][0]  # each was checked as it was read
            if len(rows) < len(page):
                break
        now = copy.last()
        return BackedUp(target, now, now - before, _time(_content(copy, now)) if now else None)


def _refuse_another(log: Journal, copy: Journal, last: int) -> None:
    """Refuse to add to what is no beginning of the log.

    Raises:
        ClipwatchError: It is none.
    """
    if any(_content(log, it) != _content(copy, it) for it in (1, last)):
        raise ClipwatchError(
            f"{copy.path}: is no copy of {log.path}: that is another log, an older one, or it was "
            "compacted since",
            fix="name an empty folder, and keep this one as long as you may need it",
        )


def _up_to(rows: Iterable[EventRow], until: datetime | None) -> Iterable[EventRow]:
    """Return those before the first one that was written later."""
    return takewhile(lambda row: until is None or _time(row) <= until, rows)


def _content(log: Journal, seq: int) -> tuple[Any, ...]:
    """Return an event as it is written, but for its checksum, which the first logs lack."""
    return next((page[0][:-1] for page in log.pages(seq - 1, 1)), ())


def _time(content: tuple[Any, ...]) -> datetime:
    return datetime.fromisoformat(content[1])
