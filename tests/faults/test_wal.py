"""The write-ahead log, torn and damaged: what is whole is read, what is not is not passed over."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipwatch.journal import Journal, wal
from clipwatch.journal.logformat import LogDamaged
from log_kit import flipped, outcome, scored, verified, write


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose daemon was killed: all of its events stand in the -wal."""
    folder = tmp_path_factory.mktemp("crashed")
    with Journal(folder / "live.db") as journal:
        write(journal, 30)
        shutil.copy(folder / "live.db", folder / "log.db")
        shutil.copy(folder / "live.db-wal", folder / "log.db-wal")
    return folder / "log.db"


@pytest.fixture
def with_wal(crashed: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Put that log into a new folder, with another -wal."""
    numbers = iter(range(1000))

    def put(log: bytes) -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        shutil.copy(crashed, folder / "log.db")
        (folder / "log.db-wal").write_bytes(log)
        return folder / "log.db"

    return put


@pytest.mark.thorough
def test_a_truncated_wal_gives_the_commits_that_are_whole(
    crashed: Path, with_wal: Callable[[bytes], Path]
) -> None:
    """Cut at 200 random places: never a part of a commit; verifying changes nothing."""
    whole, luck = wal.beside(crashed).read_bytes(), random.Random(2)
    [*everything], error = outcome(with_wal(whole))
    assert (len(everything), error) == (92, None)
    lengths = set()
    for cut in sorted(luck.randrange(len(whole)) for _ in range(200)):
        path = with_wal(whole[:cut])
        kept, faults = verified(path)
        assert wal.beside(path).read_bytes() == whole[:cut]
        read, error = outcome(path)
        assert error is None
        assert read == kept == everything[: len(read)]
        assert len(read) in (0, 1, *range(2, 93, 3))
        assert not faults or (not read and faults == ["file: there is no log in it"])
        lengths.add(len(read))
    assert len(lengths) > 20


@pytest.mark.thorough
def test_a_bad_bit_in_the_wal_is_no_end_of_the_log(
    crashed: Path, with_wal: Callable[[bytes], Path]
) -> None:
    """SQLite takes it for the end: 200 random ones are told, and a writer overwrites nothing."""
    whole, luck = wal.beside(crashed).read_bytes(), random.Random(6)
    everything, _ = outcome(with_wal(whole))
    refused = 0
    for _ in range(200):
        damaged = flipped(whole, luck.randrange(8 * len(whole)))
        path = with_wal(damaged)
        kept, faults = verified(path)
        assert kept == everything[: len(kept)]
        assert len(kept) == len(everything) or any(f.startswith("log.db-wal: ") for f in faults)
        if len(kept) < len(everything) - 3:  # more than the last commit, so no power cut did it
            with pytest.raises(LogDamaged, match="in its -wal stand behind a damaged place"):
                Journal(path)
            refused += 1
        assert wal.beside(path).read_bytes() == damaged
    assert refused > 100


def test_a_bad_byte_in_the_header_of_the_wal_is_told(
    crashed: Path, with_wal: Callable[[bytes], Path]
) -> None:
    """SQLite then takes all of it for nothing: each of its 32 bytes in turn."""
    whole = wal.beside(crashed).read_bytes()
    for byte in range(32):
        path = with_wal(flipped(whole, 8 * byte + 5))
        kept, faults = verified(path)
        assert kept == []
        assert f"log.db-wal: damaged: {31 + 1 + 1} commits stand behind the bad place" in faults
        with pytest.raises(LogDamaged, match="33 commits in its -wal"):
            Journal(path)


def test_a_commit_that_is_just_being_written_is_no_damage(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A -wal that is read while it grows can show a commit without what is before it."""
    whole = wal.beside(crashed).read_bytes()
    torn = wal.parse(flipped(whole, 4 * len(whole)))
    assert torn.lost > 1
    looks = iter([torn, wal.parse(whole)])
    monkeypatch.setattr(wal, "_look", lambda _: next(looks))
    assert wal.lost_commits(crashed) == 0


def test_an_interrupted_last_write_of_the_wal_keeps_nobody_from_writing(
    crashed: Path, with_wal: Callable[[bytes], Path]
) -> None:
    """A power cut may leave it so, and nobody was told of that commit: the rest goes on."""
    whole = wal.beside(crashed).read_bytes()
    path = with_wal(flipped(whole, 8 * len(whole) - 9))
    kept, faults = verified(path)
    assert len(kept) == 89
    assert faults == [
        "log.db-wal: its last write is not whole: a power cut interrupted it, or it is damaged"
    ]
    with Journal(path) as journal:
        assert journal.append("r", "e", 88, [scored(0)]) == 89
    assert len(outcome(path)[0]) == 90


def test_without_its_wal_a_log_is_what_the_last_checkpoint_left(
    crashed: Path, tmp_path: Path
) -> None:
    """A lost -wal cannot be noticed, but what is left is whole."""
    path = Path(shutil.copy(crashed, tmp_path / "log.db"))
    assert verified(path) == ([], ["file: there is no log in it"])
    assert outcome(path) == ([], None)
