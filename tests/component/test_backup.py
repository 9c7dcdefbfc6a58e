"""`clipwatch backup`: a copy that grows with the log, and the log as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipwatch.domain.events import OutputDirChecked
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.journal.compacting import compact
from clipwatch.journal.logformat import PACKED
from clipwatch.journal.projection import read_state
from clipwatch.journal.repair.inspection import verify
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.tasks.backup import back_up
from histories import RUNS, write
from places import LOGS
from results_kit import call


def rows(folder: Path) -> list[Recorded]:
    """Return what a log holds; nothing is wrong with it."""
    found = list(verify(log_file(folder)))
    assert all(isinstance(it, Recorded) for it in found)
    return [it for it in found if isinstance(it, Recorded)]


def go_on(folder: Path, count: int = 1) -> None:
    """Write more events."""
    with Journal(log_file(folder)) as journal:
        for n in range(count):
            version = journal.version("run/more")
            journal.append(RUNS[0], "run/more", version, [OutputDirChecked(f"gone {n}")])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a log."""
    write(tmp_path / "state", 9, 12)
    return tmp_path / "state"


def test_a_copy_is_the_log_and_grows_with_it(state: Path, tmp_path: Path) -> None:
    """Each call adds what came since, and the copy is a log like any other: known to be sound."""
    copy = tmp_path / "far/copy"
    first = call(state, "backup", str(copy)).stdout
    assert first.startswith(f"{copy}/clipwatch.db: {len(rows(state))} events, ")
    assert rows(copy) == rows(state)
    assert "0 of them new" in call(state, "backup", str(copy)).stdout
    go_on(state, 3)
    assert " 3 of them new, the last of " in call(state, "backup", str(copy)).stdout
    assert rows(copy) == rows(state)
    assert read_state(log_file(copy)) == read_state(log_file(state))
    assert log_file(copy).stat().st_mode & 0o777 == 0o600
    assert sorted(it.name for it in copy.iterdir()) == ["clipwatch.db", "clipwatch.db-checked"]
    with Journal(log_file(copy)) as journal:
        assert journal.known == journal.last()
    assert call(copy, "status").exit_code == 0


def test_it_is_made_beside_a_writer(state: Path, tmp_path: Path) -> None:
    """What is committed by then is in it, and the writer goes on."""
    with Journal(log_file(state)) as journal:
        for n in range(5):
            journal.append(RUNS[0], "run/more", n, [OutputDirChecked(str(n))])
            assert back_up(state, tmp_path / "copy").events == journal.last()
    assert rows(tmp_path / "copy") == rows(state)


def test_the_log_as_it_was_at_a_time(state: Path, tmp_path: Path) -> None:
    """All up to then, and nothing later; one that goes further is no place for it."""
    told = rows(state)
    for place in (0, 1, len(told) // 2, len(told) - 1):
        at = told[place].time
        folder = tmp_path / f"as-of-{place}"
        said = call(state, "backup", str(folder), "--until", at.isoformat())
        assert said.exit_code == 0, said.output
        later = [it.time > at for it in told]
        end = later.index(True) if True in later else len(told)
        assert rows(folder) == told[:end]
        assert read_state(log_file(folder)).keys() <= set(RUNS)
    before = told[0].time - timedelta(seconds=1)
    with pytest.raises(ClipwatchError, match=r"has events from after .*: name an empty folder"):
        back_up(state, folder, before)
    assert back_up(state, tmp_path / "none", before).events == 0
    again = call(state, "backup", str(folder), "--until", "yesterday")
    assert again.exit_code == 2
    assert again.stderr.startswith(
        "Error: --until: 'yesterday' is no time: write it as 2026-11-29T"
    )


def test_another_log_is_never_added_to(state: Path, tmp_path: Path) -> None:
    """One of somebody else, one that is older than its copy, the log itself, and none."""
    other = tmp_path / "other"
    write(other, 1)
    go_on(state)
    copy = tmp_path / "copy"
    back_up(state, copy)
    shutil.copytree(state, tmp_path / "newer")
    go_on(tmp_path / "newer")
    back_up(tmp_path / "newer", copy)
    for target in (other, copy):
        before = log_file(target).read_bytes()
        said = call(state, "backup", str(target))
        assert said.exit_code == 1
        assert said.stderr.startswith(f"Error: {log_file(target)}: is no copy of ")
        assert said.stderr.count("\n") == 1
        assert log_file(target).read_bytes() == before
    with pytest.raises(SettingsError, match="holds the log itself"):
        back_up(state, state)
    with pytest.raises(ClipwatchError, match="there is no log"):
        back_up(tmp_path / "nowhere", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_compacted_log_has_a_copy_of_its_own(state: Path, tmp_path: Path) -> None:
    """The earlier copy stays as it is; a new one is of the same format."""
    back_up(state, tmp_path / "copy")
    before = rows(tmp_path / "copy")
    compact(log_file(state), None, lambda *_: None)
    with pytest.raises(ClipwatchError, match="compacted since: name an empty folder"):
        back_up(state, tmp_path / "copy")
    assert rows(tmp_path / "copy") == before
    back_up(state, tmp_path / "new")
    assert rows(tmp_path / "new") == rows(state)
    with Journal(log_file(tmp_path / "new"), read_only=True) as journal:
        assert journal.written_as() == PACKED
    go_on(state)
    assert back_up(state, tmp_path / "new").new == 1


def test_logs_of_the_first_format_are_copied_too(tmp_path: Path) -> None:
    """Their rows get checksums; what they say is the same, and the next call goes on."""
    (old := tmp_path / "old").mkdir()
    shutil.copy(LOGS / "format-1.db", log_file(old))
    assert back_up(old, tmp_path / "copy").events == len(rows(old))
    assert rows(tmp_path / "copy") == rows(old)
    assert back_up(old, tmp_path / "copy").new == 0


def test_a_copy_that_nobody_vouches_for_is_looked_at_whole(state: Path, tmp_path: Path) -> None:
    """A bit that turned in it is told, and nothing is added."""
    back_up(state, tmp_path / "copy")
    path = log_file(tmp_path / "copy")
    data = path.read_bytes()
    place = data.index(b'"prompt_id"')
    path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    go_on(state)
    said = call(state, "backup", str(tmp_path / "copy"))
    assert said.exit_code == 1
    assert "is damaged: its checksum is wrong" in said.stderr


@pytest.mark.thorough
def test_two_at_once_make_one_copy(state: Path, tmp_path: Path) -> None:
    """One may be told of the other; the copy is right whoever was first."""
    command = [sys.executable, "-m", "clipwatch", "backup", str(tmp_path / "copy")]
    command += ["--state-dir", str(state)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [it.communicate(timeout=120)[1] for it in both]
    assert 0 in [it.returncode for it in both], said
    assert rows(tmp_path / "copy") == rows(state)


def test_a_time_without_a_zone_is_ours(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As people write it."""
    import time

    monkeypatch.setenv("TZ", "UTC-5")
    time.tzset()
    try:
        at = rows(state)[len(rows(state)) // 2].time.astimezone(UTC)
        naive = (at + timedelta(hours=5)).replace(tzinfo=None)
        call(state, "backup", str(tmp_path / "a"), "--until", naive.isoformat())
        call(state, "backup", str(tmp_path / "b"), "--until", at.isoformat())
        assert rows(tmp_path / "a") == rows(tmp_path / "b") != []
        assert isinstance(naive, datetime)
    finally:
        monkeypatch.undo()
        time.tzset()
