"""What happens to the log when the disk, the power or a person fails it."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from clipwatch.domain.events import Event, OutputDirChecked, RunStarted
from clipwatch.journal import Journal
from clipwatch.journal.repair.inspection import Fault, verify
from clipwatch.kit.errors import DiskFull, JournalError

FIRST = RunStarted("/out", "p", (), {}, "1")


def told(n: int) -> list[Event]:
    """Return a commit of three events, 3 KB together."""
    return [FIRST if n + k == 0 else OutputDirChecked(f"{n + k:<1000}") for k in range(3)]


def texts(path: Path) -> list[int]:
    """Return the numbers that were recorded; the log has no fault."""
    found = list(verify(path))
    assert [str(item) for item in found if isinstance(item, Fault)] == []
    events = [item.event for item in found if not isinstance(item, Fault)]
    assert events[:1] in ([], [FIRST])
    return [int(event.problem) for event in events[1:] if isinstance(event, OutputDirChecked)]


Disk = Callable[[int], None]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Disk]]:
    """A folder in memory, and a function that gives it so many bytes of space."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a small disk in memory needs root")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    yield folder, resize
    subprocess.run(["umount", folder], check=True)


# The second is hit while the -wal is moved into the main file.
@pytest.mark.parametrize("size", [96 * 1024, 6 * 1024 * 1024])
def test_a_full_disk_tears_nothing_and_stops_nothing(place: tuple[Path, Disk], size: int) -> None:
    """An append fails in one line and whole; with more space the same journal goes on, in order."""
    folder, resize = place
    path = folder / "clipwatch.db"
    count = 0
    with Journal(path) as journal:
        for more in range(3):
            resize(size + more * 64 * 1024)
            before = count
            with suppress(DiskFull):
                while True:
                    count = journal.append("r", "s", count, told(count))
            assert count > before
            assert journal.version("s") == count
            assert len(list(journal.read())) == count
            with Journal(path, read_only=True) as reader:
                assert len(list(reader.read())) == count
            with pytest.raises(DiskFull) as full:
                journal.append("r", "s", count, told(count))
            assert str(full.value) == f"{path}: the disk is full"
        resize(2 * size + 1024 * 1024)
        count = journal.append("r", "s", count, told(count))
    assert texts(path) == list(range(1, count))


def test_a_full_quota_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite calls it an error of the disk; it is waited for all the same, and nothing is torn.

    The system's limit on the size of a file stands for it, which binds root, too.
    """
    path = tmp_path / "clipwatch.db"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        count = journal.append("r", "s", 0, told(0))
        full = path.with_name(f"{path.name}-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
        try:
            for _ in range(2):
                with pytest.raises(DiskFull, match=r"takes no more, as when a quota is full"):
                    journal.append("r", "s", count, told(count))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        count = journal.append("r", "s", count, told(count))
    assert texts(path) == list(range(1, count))


def test_a_log_that_finds_no_space_for_its_beginning_is_made_later(
    place: tuple[Path, Disk],
) -> None:
    """However little there is: one line, and the next start makes it whole."""
    folder, resize = place
    path = folder / "state" / "clipwatch.db"

    def begin() -> None:
        with Journal(path) as journal:
            journal.append("r", "s", 0, told(0))

    for pages in range(1, 13):
        resize(pages * 4096)
        with pytest.raises(DiskFull) as full:
            begin()
        assert str(full.value) == f"{path}: the disk is full"
    resize(1024 * 1024)
    begin()
    assert texts(path) == [1, 2]


def test_on_a_disk_without_a_free_byte_a_log_is_opened_and_read(place: tuple[Path, Disk]) -> None:
    """Only what adds to it fails: `status` and a new start work beside a daemon that waits."""
    folder, _ = place
    path, ballast = folder / "clipwatch.db", folder / "ballast"
    with Journal(path) as journal:
        journal.append("r", "s", 0, told(0))
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with Journal(path) as second:
            assert len(list(second.read())) == 3
            with pytest.raises(DiskFull):
                second.append("r", "s", 3, told(3))
        ballast.unlink()
    assert texts(path) == [1, 2]


def test_a_log_deleted_or_replaced_under_its_writer_takes_nothing_more(tmp_path: Path) -> None:
    """What would be written could never be read: one line says so instead."""

    def deleted(path: Path) -> None:
        shutil.rmtree(path.parent)

    def replaced(path: Path) -> None:
        shutil.copy(path, path.with_name("other"))
        path.with_name("other").rename(path)

    def robbed_of_its_wal(path: Path) -> None:
        path.with_name(f"{path.name}-wal").unlink()

    for harm in (deleted, replaced, robbed_of_its_wal):
        path = tmp_path / harm.__name__ / "clipwatch.db"
        with Journal(path) as journal:
            journal.append("r", "s", 0, told(0))
            harm(path)
            with pytest.raises(
                JournalError, match="was deleted or replaced: start clipwatch again"
            ):
                journal.append("r", "s", 3, told(3))
        assert path.exists() == (harm is not deleted)


def test_a_lock_that_is_never_given_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's open SQLite shell is named as the reason, not a traceback."""
    monkeypatch.setattr("clipwatch.journal.store.BUSY_SECONDS", 0.1)
    path = tmp_path / "clipwatch.db"
    with Journal(path) as journal:
        shell = sqlite3.connect(path, isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="another program keeps it locked"):
            journal.append("r", "s", 0, told(0))
        with pytest.raises(JournalError, match="another program keeps it locked"):
            Journal(path)
        shell.close()
        assert journal.append("r", "s", 0, told(0)) == 3


KILLER = """
    import json, os, random, signal, sys, time
    from pathlib import Path
    from clipwatch.domain.events import OutputDirChecked, RunStarted
    from clipwatch.journal import Journal

    path, kills, luck = Path(sys.argv[1]), int(sys.argv[2]), random.Random(7)
    FIRST = RunStarted("/out", "p", (), {}, "1")

    def write(acknowledge):
        journal = Journal(path)
        version = journal.version("s")
        while True:
            numbers = range(version, version + luck.choice([1, 3, 40]))
            batch = [OutputDirChecked(f"{n:<200}") if n else FIRST for n in numbers]
            version = journal.append("r", "s", version, batch)
            os.write(acknowledge, version.to_bytes(8, "big"))

    found = []
    for _ in range(kills):
        luck.seed(luck.random())
        told, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:
            write(acknowledge)
        os.close(acknowledge)
        time.sleep(luck.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(told, "rb") as pipe:
            heard = pipe.read()
        with Journal(path, read_only=True) if path.exists() else Journal(path) as journal:
            found.append([int.from_bytes(heard[-8:], "big"), len(list(journal.read()))])
    print(json.dumps(found))
"""


def test_kill_minus_nine_loses_no_acknowledged_event_and_tears_no_commit(tmp_path: Path) -> None:
    """50 kills at random moments of one log: all that was acknowledged stands, in order, whole."""
    path = tmp_path / "clipwatch.db"
    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(path), "50"]
    killed = subprocess.run(command, capture_output=True, text=True, check=True)
    kills = json.loads(killed.stdout)
    assert len(kills) == 50
    assert all(acknowledged <= stands for acknowledged, stands in kills)
    lengths = [stands for _, stands in kills]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 100
    assert texts(path) == list(range(1, lengths[-1]))
