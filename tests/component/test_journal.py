"""The log: append-only, ordered, safe against kill -9 and against everybody else."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.events import (
    TYPES,
    CheckpointFound,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    OutputDirChecked,
)
from clipwatch.domain.written import decode, encode
from clipwatch.journal import Journal, log_file
from clipwatch.kit.errors import Conflict, JournalError
from clipwatch.statistics import Summary
from places import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def found(step: int) -> CheckpointFound:
    return CheckpointFound(step, f"checkpoint-{step}", f"/out/checkpoint-{step}", "no .guard")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "state" / "log.db", clock=lambda: NOW) as journal:
        yield journal


def events_of(path: Path) -> list[Event]:
    """Read a log as a stranger beside its writer."""
    with Journal(path, read_only=True) as journal:
        return [recorded.event for recorded in journal.read()]


def test_events_come_back_in_order_and_whole(journal: Journal) -> None:
    """What was appended is read again, with gapless positions and the clock's time."""
    events = [found(step) for step in range(2500)]
    journal.append("run", "a", 0, events[:1])
    journal.append("run", "b", 0, events[1:])
    read = list(journal.read())
    assert [recorded.event for recorded in read] == events
    assert [recorded.seq for recorded in read] == list(range(1, 2501))
    assert [recorded.version for recorded in read[:3]] == [1, 1, 2]
    assert {recorded.time for recorded in read} == {NOW}
    assert [recorded.event for recorded in journal.read(stream="a")] == events[:1]
    assert [recorded.seq for recorded in journal.read(2498)] == [2499, 2500]


def test_a_stream_is_read_alone_and_from_any_place(journal: Journal) -> None:
    """Other streams between its events make no gap in it; `after` counts in the stream."""
    for n in range(0, 1200, 300):
        journal.append("run", "a", n, [found(n + k) for k in range(300)])
        journal.append("run", "b", n, [found(-n - k) for k in range(300)])
    read = list(journal.read(stream="b"))
    assert [recorded.event for recorded in read] == [found(-n) for n in range(1200)]
    assert read == [recorded for recorded in journal.read() if recorded.stream == "b"]
    assert list(journal.read(1198, stream="b")) == read[1198:]
    assert list(journal.read(stream="c")) == []


def test_a_name_that_is_no_utf_8_is_told(journal: Journal) -> None:
    """Linux allows such a folder, SQLite no such text: one line, and nothing is added."""
    with pytest.raises(JournalError, match="no UTF-8: '/out"):
        journal.append("run", "a", 0, [OutputDirChecked("/out/\udcff")])
    with pytest.raises(JournalError, match="no UTF-8: 'run"):
        journal.append("run\udcff", "run\udcff", 0, [OutputDirChecked("")])
    assert list(journal.read()) == []


def test_a_stale_version_is_a_conflict_and_adds_nothing(journal: Journal) -> None:
    """Who decided on an old state must fold again."""
    journal.append("run", "a", 0, [found(1)])
    with pytest.raises(Conflict, match="version is 1, not 0"):
        journal.append("run", "a", 0, [found(2)])
    assert journal.version("a") == 1
    assert journal.append("run", "a", 1, []) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{}'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events",
        "REPLACE INTO events SELECT 9, time, run, stream, version, type, data, crc FROM events",
        "REPLACE INTO events SELECT seq, time, run, 'other', version, type, '{}', crc FROM events",
    ],
)
def test_no_program_can_change_what_was_written(journal: Journal, statement: str) -> None:
    """Update, delete and replace are refused to every connection."""
    journal.append("run", "a", 0, [found(1)])
    stranger = sqlite3.connect(journal.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        stranger.execute(statement)
    stranger.close()
    assert [recorded.event for recorded in journal.read()] == [found(1)]


def test_the_log_is_private_and_readable_beside_the_writer(journal: Journal) -> None:
    """The file has mode 0600, and a reader sees each commit while the writer stays open."""
    with Journal(journal.path, read_only=True) as reader:
        journal.append("run", "a", 0, [found(1)])
        assert len(list(reader.read())) == 1
        with pytest.raises(JournalError, match="readonly"):
            reader.append("run", "a", 1, [found(2)])
    assert journal.path.stat().st_mode & 0o777 == 0o600


CLAIMER = """
    import sys
    from pathlib import Path
    from clipwatch.kit.errors import Conflict
    from clipwatch.domain.events import OutputDirChecked
    from clipwatch.journal import Journal
    journal = Journal(Path(sys.argv[1]))
    won = 0
    for n in range(100):
        try:
            journal.append("run", f"claim/{n}", 0, [OutputDirChecked("")])
            won += 1
        except Conflict:
            pass
    print(won)
"""


def test_two_processes_never_both_win_a_stream(tmp_path: Path) -> None:
    """Of two writers that expect the same version exactly one succeeds."""
    command = [sys.executable, "-c", textwrap.dedent(CLAIMER), str(tmp_path / "log.db")]
    claimers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    wins = [int(claimer.communicate(timeout=60)[0]) for claimer in claimers]
    assert sum(wins) == 100
    assert len(events_of(tmp_path / "log.db")) == 100


finite = st.floats(-1, 1)
scores = st.builds(
    ImageScore,
    st.text(),
    st.integers(0, 9),
    st.integers(0, 2**63 - 1),
    st.dictionaries(st.text(), finite).map(lambda others: {"": 0.5, **others}),
    st.none() | st.text(),
)


@given(st.builds(ImagesScored, st.text(), st.lists(scores, max_size=5).map(tuple)))
def test_events_survive_their_encoding(event: ImagesScored) -> None:
    """Decoding what was encoded gives an equal event, whatever the text in it."""
    assert decode(*encode(event)) == event


def test_unknown_fields_of_later_versions_are_passed_over() -> None:
    """A field that this version does not know does not keep it from reading."""
    assert decode("OutputDirChecked", '{"problem": "x", "since": 3}') == OutputDirChecked("x")


def test_every_event_type_is_known_by_its_name() -> None:
    """The log's type names are the classes' names."""
    assert TYPES["ImagesScored"] is ImagesScored
    assert all(name == kind.__name__ for name, kind in TYPES.items())


def test_the_documentation_names_every_event_and_field() -> None:
    """docs/log.md is the vocabulary for people; a field that lacks there is a defect."""
    page = (ROOT / "docs" / "log.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for name, kind in TYPES.items():
        assert name in rows
        assert [f.name for f in fields(kind) if f"`{f.name}`" not in rows[name]] == []


def test_landmarks_are_all_but_the_images_of_what_is_completed(tmp_path: Path) -> None:
    """Those of an evaluation that still runs are kept; the order is the log's."""
    summary = Summary(0.3, 0.1, 0.4, 0.05, 2)
    image = ImageScore("a", 0, 1, {"": 0.3})

    def story(id_: str) -> list[Event]:
        first = EvaluationStarted(id_, "checkpoint-1", 1, "d", "p", {})
        return [first, ImagesScored(id_, (image,)), ImagesScored(id_, (image,))]

    with Journal(log_file(tmp_path)) as journal:
        assert journal.landmarks() == []
        journal.append("run", "a", 0, story("a"))
        journal.append("run", "b", 0, story("b"))
        journal.append("run", "a", 3, [EvaluationCompleted("a", {"": summary})])
        kept = journal.landmarks()
        assert [found.seq for found in kept] == [1, 4, 5, 6, 7]
        assert kept == [found for found in journal.read() if found.seq not in {2, 3}]
        assert list(journal.read(brief=True)) == kept


def test_landmarks_are_of_one_moment(tmp_path: Path) -> None:
    """Who writes while they are read adds nothing: what stood before it would never be read."""
    images = ImagesScored("a", (ImageScore("a", 0, 1, {"": 0.3}),))
    with Journal(log_file(tmp_path)) as writer:
        writer.append("run", "a", 0, [EvaluationStarted("a", "checkpoint-1", 1, "d", "p", {})])
        with Journal(log_file(tmp_path), read_only=True) as reader:

            def write(statement: str) -> None:
                if "stream = 'a'" in statement and writer.version("a") == 1:
                    writer.append("other", "b", 0, [found(1)])
                    writer.append("run", "a", 1, [images])

            reader._db.set_trace_callback(write)
            assert [it.seq for it in reader.landmarks()] == [1]
            assert writer.version("a") == 2  # it did come between
            assert [it.seq for it in reader.landmarks()] == [1, 2, 3]


def test_what_is_passed_over_is_checked_all_the_same(tmp_path: Path) -> None:
    """A daemon that begins finds a wrong bit in images whose sum it has already."""
    with Journal(log_file(tmp_path)) as journal:
        first = EvaluationStarted("a", "checkpoint-1", 1, "d", "p", {})
        images = ImagesScored("a", (ImageScore("a", 0, 1, {"": 0.3}),))
        last = EvaluationCompleted("a", {"": Summary(0.3, 0.1, 0.4, 0.05, 1)})
        journal.append("run", "a", 0, [first, images, last])
    data = log_file(tmp_path).read_bytes()
    assert data.count(b'"score":0.3') == 1
    log_file(tmp_path).write_bytes(data.replace(b'"score":0.3', b'"score":0.9'))
    with Journal(log_file(tmp_path), read_only=True) as journal:
        assert len(journal.landmarks()) == 2
        with pytest.raises(JournalError, match="event 2 is damaged: its checksum is wrong"):
            list(journal.read(brief=True))
