"""Damaged logs: noticed, told by their place, read as far as they can be, and never written to."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from clipwatch.domain.events import Event, ImagesScored, OutputDirChecked, RunStarted
from clipwatch.domain.written import encode
from clipwatch.journal import Journal, Recorded, wal
from clipwatch.journal.logformat import LogDamaged, checksum
from clipwatch.journal.repair import pages
from clipwatch.journal.repair.inspection import readable, verify
from clipwatch.kit.errors import JournalError
from log_kit import LONG, flipped, outcome, verified, write


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 272 events; not to be changed."""
    path = tmp_path_factory.mktemp("original") / "log.db"
    with Journal(path) as journal:
        write(journal, 90)
    return path


@pytest.fixture(scope="module")
def events(original: Path) -> list[Recorded]:
    with Journal(original, read_only=True) as journal:
        return list(journal.read())


@pytest.fixture
def log(original: Path, tmp_path: Path) -> Path:
    """A copy of that log, alone in its folder."""
    return Path(shutil.copy(original, tmp_path / "log.db"))


def tamper(path: Path, *statements: str) -> None:
    """Change rows, past the triggers."""
    db = sqlite3.connect(path)
    for kind in ("updated", "deleted", "replaced"):
        db.execute(f"DROP TRIGGER events_are_never_{kind}")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


# Healthy -------------------------------------------------------------------------------------


def test_a_healthy_log_has_no_fault_and_is_not_touched(log: Path, events: list[Recorded]) -> None:
    """Verifying gives every event and leaves every byte."""
    before = log.read_bytes()
    assert list(verify(log)) == list(readable(log)) == events
    assert log.read_bytes() == before


WRITER = """
    import sys, time
    from pathlib import Path
    from clipwatch.domain.events import OutputDirChecked, RunStarted
    from clipwatch.journal import Journal
    journal = Journal(Path(sys.argv[1]))
    journal.append("r", "s", 0, [RunStarted("/out", "p", (), {}, "1")])
    version = 1
    while True:
        version = journal.append("r", "s", version, [OutputDirChecked("x" * 500)] * 3)
        print(version, flush=True)
        time.sleep(0.001)  # else verifying never keeps pace with it
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that commits all the time, and has begun to."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "live.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_log_that_is_being_written_has_no_fault(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Verified 6 times beside a busy writer: whole commits, each time at least as many.

    Another writer that begins meanwhile sees none either.
    """
    lengths = [0]
    for _ in range(6):
        kept, faults = verified(tmp_path / "live.db")
        assert faults == []
        assert len(kept) % 3 == 1
        lengths.append(len(kept))
        Journal(tmp_path / "live.db").__exit__()
    assert lengths == sorted(lengths)
    assert writer.poll() is None


# Rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "reading", "fault"),
    [
        (
            "UPDATE events SET data = replace(data, '0.25', '0.26') WHERE seq = 40",
            "event 40 is damaged: its checksum is wrong",
            r"event 40: page \d+: its checksum is wrong",
        ),
        (
            "UPDATE events SET time = '2020-01-01T00:00:00+00:00' WHERE seq = 1",
            "event 1 is damaged: its checksum is wrong",
            r"event 1: page \d+: its checksum is wrong",
        ),
        (
            "UPDATE events SET run = CAST(x'72ff' AS TEXT) WHERE seq = 40",
            "event 40: its text is no UTF-8",
            r"event 40: page \d+: its text is no UTF-8",
        ),
        ("DELETE FROM events WHERE seq = 40", "event 40 is missing", "event 40: missing"),
        (
            "DELETE FROM events WHERE seq BETWEEN 40 AND 42",
            "event 40 is missing",
            "events 40 to 42: missing",
        ),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing", "event 1: missing"),
    ],
)
def test_a_changed_or_missing_event_is_told_by_its_place(
    log: Path, events: list[Recorded], statement: str, reading: str, fault: str
) -> None:
    """Reading stops right before it and says how to go on; verifying reads all the others."""
    tamper(log, statement)
    before = log.read_bytes()
    seq = int(re.findall(r"event (\d+)", reading)[0])
    read, error = outcome(log)
    assert read == events[: seq - 1]
    assert isinstance(error, LogDamaged)
    assert f"{log}: {reading}: clipwatch log --verify tells what can still be read" == str(error)
    kept, faults = verified(log)
    assert len(faults) == 1
    assert re.fullmatch(fault, faults[0])
    lost = 3 if "to" in fault else 1
    assert kept == events[: seq - 1] + events[seq - 1 + lost :]
    assert [item for item in readable(log) if isinstance(item, Recorded)] == kept
    assert log.read_bytes() == before


def forged(seq: int, stream: str, version: int, event: Event) -> str:
    """Return the statement that adds an event with a right checksum."""
    content = (seq, "2026-01-01T00:00:00+00:00", "r", stream, version, *encode(event))
    values = ", ".join(map(repr, (*content, checksum(content))))
    return f"INSERT INTO events VALUES ({values})"


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            forged(273, "run", 4, OutputDirChecked("")),
            "event 273: cannot follow from those before it: 'number 4 of run'",
        ),
        (
            forged(273, "x", 1, ImagesScored("never begun", ())),
            "event 273: cannot follow from those before it: 'never begun'",
        ),
    ],
)
def test_an_event_that_cannot_follow_is_told(log: Path, statement: str, fault: str) -> None:
    """A gap in a stream, or an event about what never began."""
    tamper(log, statement)
    kept, faults = verified(log)
    assert len(kept) == 273
    assert faults == [fault]


def test_an_event_of_a_later_version_is_told(log: Path, events: list[Recorded]) -> None:
    """It is no damage: reading says to upgrade, verifying passes over it."""
    content = (273, "2026-01-01T00:00:00+00:00", "r", "s", 1, "Sung", "{}")
    values = ", ".join(map(repr, (*content, checksum(content))))
    tamper(log, f"INSERT INTO events VALUES ({values})")
    read, error = outcome(log)
    assert read == events
    assert type(error) is JournalError
    assert "event 273 is a Sung, which this version does not know: upgrade" in str(error)
    assert verified(log) == (events, ["event 273: is a Sung, which this version does not know"])


def test_the_checksum_is_the_documented_one(log: Path) -> None:
    """Any program can check a row: CRC-32 of the row as a MessagePack array."""
    db = sqlite3.connect(log)
    rows = db.execute("SELECT * FROM events").fetchall()
    db.close()
    for *content, crc in rows:
        assert zlib.crc32(msgspec.msgpack.encode(content)) == crc


# Bits ----------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_no_flipped_bit_ever_changes_an_event_silently(
    original: Path, events: list[Recorded], tmp_path: Path
) -> None:
    """For 300 random bits: what is read is what was written, what is lost is told, one at most."""
    luck, whole, path = random.Random(3), original.read_bytes(), tmp_path / "log.db"
    told = 0
    for _ in range(300):
        damaged = flipped(whole, luck.randrange(8 * len(whole)))
        path.write_bytes(damaged)
        read, error = outcome(path)
        assert read == events[: len(read)]
        assert len(read) == len(events) or error is not None
        kept, faults = verified(path)
        assert all(recorded == events[recorded.seq - 1] for recorded in kept)
        assert len(kept) >= len(events) - 1
        assert len(kept) == len(events) or faults
        assert error is None or faults
        told += bool(faults)
        assert path.read_bytes() == damaged
    assert 200 < told < 300  # the others are bits that nothing uses


def test_a_page_overwritten_anywhere_costs_no_more_than_its_own_events(
    original: Path, events: list[Recorded], tmp_path: Path
) -> None:
    """Each page in turn, be it root, schema or header, filled with garbage."""
    whole, path, luck = original.read_bytes(), tmp_path / "log.db", random.Random(4)
    cells = list(pages.cells(whole, 4096))
    within = {
        n: {seq for seq, cell in cells if cell // 4096 == n} for n in range(len(whole) // 4096)
    }
    spilled = spills(whole)
    for number, seqs in within.items():
        start = number * 4096
        path.write_bytes(whole[:start] + luck.randbytes(4096) + whole[start + 4096 :])
        kept, faults = verified(path)
        lost = seqs | ({LONG + 3} if number in spilled else set())
        assert {recorded.seq for recorded in kept} == set(range(1, 273)) - lost
        assert all(recorded == events[recorded.seq - 1] for recorded in kept)
        assert faults
        read, error = outcome(path)
        assert read == events[: min(lost) - 1 if lost else len(read)]
        assert len(read) == len(events) or error is not None


def spills(whole: bytes) -> set[int]:
    """Return the pages that the long event spills into, counted from 0."""
    return {n for n in range(len(whole) // 4096) if b"long" * 500 in whole[n * 4096 :][:4096]}


def test_a_schema_that_is_no_text_any_more_is_told(log: Path, events: list[Recorded]) -> None:
    """Python chokes on SQLite's own message about it; the events are read nevertheless."""
    log.write_bytes(log.read_bytes().replace(b"time    TEXT", b"time    TE\xedT"))
    _, error = outcome(log)
    assert isinstance(error, LogDamaged)
    assert "its text is no UTF-8: clipwatch log --verify" in str(error)
    kept, faults = verified(log)
    assert kept == events
    assert "file: its text is no UTF-8" in faults


def test_events_that_a_bad_page_hides_at_the_end_are_missed(
    log: Path, events: list[Recorded]
) -> None:
    """The last page says that it has but one, and no number after it shows the gap."""
    whole = log.read_bytes()
    page = max(cell // 4096 for seq, cell in pages.cells(whole, 4096) if seq == len(events))
    last = [seq for seq, cell in pages.cells(whole, 4096) if cell // 4096 == page]
    start = page * 4096
    log.write_bytes(whole[: start + 3] + b"\0\1" + whole[start + 5 :])
    missing = f"events {last[1]} to {last[-1]}"
    read, error = outcome(log)
    assert read == events[: last[0]]
    assert f"{missing} are missing" in str(error)
    kept, faults = verified(log)
    assert kept == events[: last[0]]
    assert f"{missing}: missing" in faults
    with pytest.raises(LogDamaged, match="clipwatch log --verify"):
        Journal(log)


# Ends ----------------------------------------------------------------------------------------


def test_a_truncated_log_gives_what_is_left_of_it(
    original: Path, events: list[Recorded], tmp_path: Path
) -> None:
    """Cut at 200 random places: every row that is still there is read, and the cut is told."""
    luck, whole, path = random.Random(1), original.read_bytes(), tmp_path / "log.db"
    spilled = max(spills(whole)) + 1
    for cut in sorted({luck.randrange(len(whole)) for _ in range(200)}):
        path.write_bytes(whole[:cut])
        read, error = outcome(path)
        assert read == events[: len(read)]
        assert error is not None or cut == 0
        kept, faults = verified(path)
        assert faults
        if 32 <= cut <= len(whole) - 4096:  # of its last page SQLite takes any part for the whole
            assert f"file: it ends at byte {cut} of {len(whole)}" in faults
        there = {
            seq
            for seq, cell in pages.cells(whole, 4096)
            if (cell // 4096 + 1) * 4096 <= cut and (seq != LONG + 3 or spilled * 4096 <= cut)
        }
        assert there <= {recorded.seq for recorded in kept}
        assert all(recorded == events[recorded.seq - 1] for recorded in kept)
        assert path.read_bytes() == whole[:cut]


# Writers -------------------------------------------------------------------------------------


def test_a_writer_refuses_a_damaged_file_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    """SQLite would write on into a broken tree, and would move the -wal into it as it closes."""
    with Journal(tmp_path / "live.db") as journal:
        journal.append("r", "run", 0, [RunStarted("/out", "p", (), {}, "1")])
        journal.append("r", "e", 0, [OutputDirChecked("x" * 1000)] * 50)
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        journal.append("r", "f", 0, [OutputDirChecked("y")])
        path = Path(shutil.copy(tmp_path / "live.db", tmp_path / "log.db"))
        shutil.copy(wal.beside(journal.path), wal.beside(path))
    whole = path.read_bytes()
    start = next(cell for seq, cell in pages.cells(whole, 4096) if seq == 20) // 4096 * 4096
    path.write_bytes(whole[: start + 3] + b"\0\0" + whole[start + 5 :])  # a page without rows
    before = (path.read_bytes(), wal.beside(path).read_bytes())
    with pytest.raises(LogDamaged, match="clipwatch log --verify"):
        Journal(path)
    assert (path.read_bytes(), wal.beside(path).read_bytes()) == before
    assert verified(path)[0][-1].seq == 52
    assert (path.read_bytes(), wal.beside(path).read_bytes()) == before
