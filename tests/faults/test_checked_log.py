"""What a normal end has checked is not checked again, and what it cannot vouch for is."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipwatch.domain.events import (
    CheckpointDiscarded,
    EvaluationCompleted,
    EvaluationStarted,
    OutputDirChecked,
    RunStarted,
)
from clipwatch.journal import Journal, checked, wal
from clipwatch.journal.ledger import Ledger
from clipwatch.journal.logformat import LogDamaged
from clipwatch.statistics import Summary
from log_kit import scored

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def opened(path: Path, *, at: datetime = NOON) -> Journal:
    """Open a log for writing."""
    return Journal(path, clock=lambda: at)


def told(path: Path, *, at: datetime = NOON) -> int:
    """Open a log as the daemon does; return how much of it was known to be sound before."""
    with opened(path, at=at) as journal:
        known = journal.known
        Ledger(journal)
    return known


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of one finished evaluation and one that is not, after a normal end: 65 events."""
    path = tmp_path / "clipwatch.db"
    with opened(path) as journal:
        ledger = Ledger(journal)
        ledger.record("r", "run", RunStarted("/out", "p", (), {}, "1"))
        for name in ("e", "f"):
            begun = EvaluationStarted(name, "c", 1, "d", "p", {})
            ledger.record("r", name, begun, *map(scored, range(30)))
        ledger.record("r", "e", EvaluationCompleted("e", Summary(0.3, 0.2, 0.4, 0.03, 30)))
        ledger.record("r", "run", OutputDirChecked(""))
    return path


def test_what_a_normal_end_checked_is_known_at_the_next_start(log: Path) -> None:
    """It is known up to the last event, and means the same as if all had been read."""
    with opened(log) as journal:
        assert journal.known == 65
        ledger = Ledger(journal)
        with Journal(log, read_only=True) as reader:
            whole = Ledger(reader)
    assert (ledger.state, ledger.seq) == (whole.state, whole.seq)


def test_events_of_the_last_start_are_known_too(log: Path) -> None:
    """Each normal end vouches for what it wrote, and the week goes on from the whole check."""
    with opened(log, at=NOON + timedelta(days=6)) as journal:
        Ledger(journal).record("r", "run", OutputDirChecked("gone"))
    assert told(log, at=NOON + timedelta(days=6)) == 66
    assert told(log, at=NOON + timedelta(days=7)) == 0
    assert told(log, at=NOON + timedelta(days=7)) == 66


def killed(log: Path) -> None:
    """Leave everything as a kill does, after an event that stands in the -wal alone."""
    parts = [log, wal.beside(log), checked.beside(log)]
    with opened(log) as journal:
        Ledger(journal).record("r", "run", OutputDirChecked("gone"))
        for part in parts:
            shutil.copy(part, part.with_name(f"kept-{part.name}"))
    for part in parts:
        part.with_name(f"kept-{part.name}").replace(part)


def failed(log: Path) -> None:
    """End with an exception."""
    journal = opened(log)
    Ledger(journal).record("r", "run", OutputDirChecked("gone"))
    journal.__exit__(RuntimeError)


def unread(log: Path) -> None:
    """Write without reading back what was written."""
    with opened(log) as journal:
        Ledger(journal).record("r", "run", OutputDirChecked("gone"))
        journal.append(
            "r", "other", 0, [CheckpointDiscarded(1, "c", "/out/c", "unreadable", "bad")]
        )


def foreign(log: Path) -> None:
    """Write with another program."""
    with sqlite3.connect(log) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()


def cut(log: Path) -> None:
    """Cut the mark itself."""
    mark = checked.beside(log)
    mark.write_bytes(mark.read_bytes()[:-9])


def upgraded(log: Path) -> None:
    """Let another version have checked it."""
    mark = checked.beside(log)
    mark.write_bytes(mark.read_bytes().replace(b"clipwatch ", b"clipwatch 9"))


def restored(log: Path) -> None:
    """Put an earlier copy in its place while it is open; the copy has one row more of another."""
    with opened(log) as journal:
        Ledger(journal).record("r", "run", OutputDirChecked("gone"))
        shutil.copy(log, log.with_name("copy"))
        with opened(log.with_name("copy")) as other:
            other.append(
                "r", "other", 0, [CheckpointDiscarded(1, "c", "/out/c", "unreadable", "bad")]
            )
        log.with_name("copy").replace(log)


@pytest.mark.parametrize("harm", [killed, failed, unread, foreign, cut, upgraded, restored])
def test_what_nobody_vouches_for_is_looked_at_whole(
    log: Path, harm: Callable[[Path], None]
) -> None:
    """After any end but a normal one, and whatever else was done to it, nothing is taken as known.

    The end after that vouches again.
    """
    harm(log)
    assert told(log) == 0
    assert told(log) > 0


def test_a_bit_that_turned_while_the_log_lay_there_is_noticed(log: Path) -> None:
    """One in a finished evaluation's images, which a start with a mark does not read."""
    data = log.read_bytes()
    place = data.index(b'"prompt_id"')
    log.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    with pytest.raises(LogDamaged, match=r"event \d+ is damaged"):
        told(log)
    with pytest.raises(LogDamaged, match=r"event \d+ is damaged"):
        told(log)  # and the failed start vouched for nothing


def test_the_mark_is_only_for_its_owner_and_costs_no_end(log: Path) -> None:
    """It is private like the log; where it cannot be written the log is whole all the same."""
    mark = checked.beside(log)
    assert mark.stat().st_mode & 0o777 == 0o600
    mark.unlink()
    mark.mkdir()
    assert told(log) == 0
    assert told(log) == 0


def test_a_second_daemon_leaves_the_log_to_the_last(log: Path) -> None:
    """While one still writes, the end of another vouches for nothing; the last one does."""
    with opened(log) as last:
        ledger = Ledger(last)
        before = checked.beside(log).read_bytes()
        with opened(log) as first:
            Ledger(first).record("r", "run", OutputDirChecked("gone"))
        assert checked.beside(log).read_bytes() == before
        ledger.catch_up()
    assert told(log) == 66
