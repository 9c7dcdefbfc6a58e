"""Every later version reads every earlier log, and refuses what it cannot know."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from clipwatch.domain.delivered import owed, parked
from clipwatch.domain.events import (
    TYPES,
    CheckpointCompleted,
    DestinationChanged,
    Event,
    ImageScore,
    ImagesScored,
    OutputDirChecked,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.queue import queue
from clipwatch.domain.state import Run, State
from clipwatch.domain.written import decode, encode
from clipwatch.journal import Journal, Recorded
from clipwatch.journal.logformat import APPLICATION_ID, FORMAT, PACKED, LogDamaged, identify
from clipwatch.journal.repair import pages
from clipwatch.journal.repair.inspection import verify
from clipwatch.kit.errors import JournalError
from clipwatch.loop.narration import story
from clipwatch.statistics import Summary
from places import LOGS, ROOT

SCRIPT = ROOT / "scripts" / "make_log_fixture.py"
STORY: tuple[Any, ...] = runpy.run_path(str(SCRIPT))["STORY"]
RUN = "shapes-0a1b2c"
FORMATS = range(1, FORMAT + 1)
EVENTS: list[Event] = [told.event for told in STORY]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the log of format 1, alone in its folder."""
    return copied(1, tmp_path)


def copied(number: int, folder: Path) -> Path:
    return Path(shutil.copy(LOGS / f"format-{number}.db", folder / "clipwatch.db"))


def read(path: Path) -> list[Recorded]:
    with Journal(path, read_only=True) as journal:
        return list(journal.read())


def folded(events: list[Recorded]) -> Run:
    state: State = {}
    for recorded in events:
        state = evolve(state, [(recorded.run, recorded.event, recorded.time)])
    return state[RUN]


def pragma(path: Path, name: str) -> int:
    db = sqlite3.connect(path)
    value = int(db.execute(f"PRAGMA {name}").fetchone()[0])
    db.close()
    return value


def test_there_is_a_log_of_every_format_and_in_them_every_type_of_event(tmp_path: Path) -> None:
    """Who adds a format or a type must add its log: scripts/make_log_fixture.py."""
    found = [(number, pragma(copied(number, tmp_path), "user_version")) for number in FORMATS]
    assert found == [(number, number) for number in FORMATS]
    kinds = {type(item.event).__name__ for n in FORMATS for item in read(copied(n, tmp_path))}
    assert kinds == set(TYPES)


@pytest.mark.parametrize("number", FORMATS)
def test_a_log_of_any_format_reads_event_by_event_as_it_was_written(
    number: int, tmp_path: Path
) -> None:
    """Every field of every event, its time and its place are what the story says."""
    events = read(copied(number, tmp_path))
    assert len(events) == {1: 20, 2: len(STORY)}[number]
    streams: dict[str, int] = {}
    for seq, (recorded, told) in enumerate(zip(events, STORY, strict=False), 1):
        streams[told.stream] = streams.get(told.stream, 0) + 1
        when = datetime(2026, 11, 23, 12, tzinfo=UTC) + timedelta(seconds=told.seconds)
        place = (seq, when, RUN, told.stream, streams[told.stream])
        assert recorded == Recorded(*place, told.event)


@pytest.mark.parametrize("number", FORMATS)
def test_a_log_of_any_format_means_what_it_meant(number: int, tmp_path: Path) -> None:
    """Folded, it gives the checkpoints, results and trackers of its day."""
    events = read(copied(number, tmp_path))[:20]
    before = folded(events[:19])
    assert parked(before, "wandb")
    assert before.trackers["wandb"].trial(before.protocol).reason == "error 401"
    run = folded(events)
    assert {c.name: c.state for c in run.checkpoints.values()} == {
        "checkpoint-50": "discarded",
        "checkpoint-100": "whole",
        "checkpoint-200": "whole",
    }
    first, second = run.evaluations.values()
    summary = Summary(0.3, 0.25, 0.35, 0.04999999999999999, 2)
    assert (first.checkpoint, first.state, first.clip) == ("checkpoint-100", "scored", summary)
    reopened = datetime(2026, 11, 23, 12, 0, 14, tzinfo=UTC)
    assert (second.checkpoint, second.state) == ("checkpoint-200", "failed")
    assert (second.attempt, second.retry_at) == (0, reopened)
    assert [c.step for c in queue(run)] == [200]
    assert owed(run, "tracker", "tensorboard") == {}
    assert run.trackers["tensorboard"].where == "/out/logs/shapes/clipwatch"
    assert owed(run, "tracker", "wandb") == {run.protocol: (first.id,)}
    assert not parked(run, "wandb")  # the settings were changed last
    assert run.settings == {"seed": "0", "keep_images": "3"}


@pytest.mark.parametrize("number", FORMATS)
def test_a_log_of_any_format_is_verified_without_a_fault(number: int, tmp_path: Path) -> None:
    """Rows without checksums are no fault where they may be."""
    path = copied(number, tmp_path)
    assert list(verify(path)) == read(path)


def test_a_reader_leaves_an_old_log_as_it_is(old: Path) -> None:
    """Not a byte of it changes and nothing appears beside it: an older daemon may be using it."""
    assert len(read(old)) == 20
    assert old.read_bytes() == (LOGS / "format-1.db").read_bytes()
    assert list(old.parent.iterdir()) == [old]


def test_a_writer_brings_an_old_log_up_to_date_and_goes_on(old: Path) -> None:
    """The old rows are untouched, the new ones have checksums, and all is one story."""
    before = read(old)
    with Journal(old) as journal:
        journal.append(RUN, f"run/{RUN}", 9, [OutputDirChecked("gone")])
        journal.append(RUN, "tracker/x", 0, [OutputDirChecked("")])
    assert pragma(old, "user_version") == FORMAT
    assert pragma(old, "application_id") == APPLICATION_ID
    after = read(old)
    assert after[:20] == before
    assert [(item.seq, item.version) for item in after[20:]] == [(21, 10), (22, 1)]
    assert list(verify(old)) == after
    db = sqlite3.connect(old)
    assert db.execute("SELECT count(*) FROM events WHERE crc IS NULL").fetchone() == (20,)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("UPDATE events SET crc = 0")
    db.close()


def test_a_checksum_may_be_missing_only_before_the_first(old: Path) -> None:
    """A row that lost its checksum among rows that have one is damaged."""
    with Journal(old) as journal:
        journal.append(RUN, f"run/{RUN}", 9, [OutputDirChecked(str(n)) for n in range(3)])
    db = sqlite3.connect(old)
    db.execute("DROP TRIGGER events_are_never_updated")
    db.execute("UPDATE events SET crc = NULL WHERE seq = 22")
    db.commit()
    db.close()
    with pytest.raises(LogDamaged, match="event 22 is damaged: its checksum is missing"):
        read(old)
    [fault] = [str(item) for item in verify(old) if not isinstance(item, Recorded)]
    assert re.fullmatch(r"event 22: page \d+: its checksum is missing", fault)


def test_two_rows_that_claim_one_place_are_both_doubted(old: Path) -> None:
    """Without checksums nobody can say which of them is right."""
    data = bytearray(old.read_bytes())
    _, cell = next(found for found in pages.cells(bytes(data), 4096) if found[0] == 5)
    assert data[cell + 1 : cell + 3].count(5) == 1  # behind a length of one or two bytes
    data[data.index(5, cell + 1)] = 6
    old.write_bytes(data)
    with pytest.raises(LogDamaged, match="event 5 is missing"):
        read(old)
    found = list(verify(old))
    assert [item.seq for item in found if isinstance(item, Recorded)] == [
        *range(1, 5),
        *range(7, 21),
    ]
    assert "event 6: stands there twice" in map(str, found)
    assert "events 5 to 6: missing" in map(str, found)


BEGINNERS = """
    import os, shutil, sys, time
    from pathlib import Path
    from clipwatch.journal import Journal

    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for n in range(50):
        path = folder / f"{n}.db"
        if source.exists():
            shutil.copy(source, path)
        begin = time.monotonic() + 0.01
        children = []
        for _ in range(4):
            if (child := os.fork()) == 0:
                while time.monotonic() < begin:
                    pass
                with Journal(path) as journal:
                    os._exit(len(list(journal.read())))
            children.append(child)
        counts = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        print(*counts)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(("source", "count"), [("format-1.db", 20), ("no such file", 0)])
def test_many_may_begin_a_log_or_bring_it_up_to_date_at_once(
    source: str, count: int, tmp_path: Path
) -> None:
    """50 times four processes in the same instant: each finds a whole log."""
    command = [sys.executable, "-c", textwrap.dedent(BEGINNERS), str(LOGS / source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{count}\n" * 50, done.stderr
    assert {pragma(path, "user_version") for path in tmp_path.glob("*.db")} == {FORMAT}


def test_a_log_is_identified_at_one_moment(tmp_path: Path) -> None:
    """One that is made while it is looked at is empty, not damaged or another program's."""
    path = tmp_path / "clipwatch.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    made: list[Journal] = []

    def make(statement: str) -> None:
        if "application_id" in statement and not made:
            made.append(Journal(path))

    db.set_trace_callback(make)
    assert identify(db, path) == 0
    assert identify(db, path) == FORMAT
    db.close()
    [journal] = made
    journal.__exit__()


KILLER = """
    import json, os, random, shutil, signal, sys, time
    from pathlib import Path
    from clipwatch.journal import Journal

    source, path, luck = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(5)
    for _ in range(2):  # the first is slower: it imports
        started = time.perf_counter()
        Journal(Path(shutil.copy(source, path))).__exit__()
        whole = time.perf_counter() - started
    found, bound = [], 1.5 * whole
    for _ in range(60):
        for name in path.parent.glob(f"{path.name}*"):
            name.unlink()
        shutil.copy(source, path)
        child = os.fork()
        if child == 0:
            Journal(path)
            time.sleep(60)
        time.sleep(luck.uniform(0, bound))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with Journal(path, read_only=True) as journal:
            found.append([journal._format(), len(list(journal.read()))])
        bound *= 1.3 if found[-1][0] == 1 else 1 / 1.3  # so that both happen at any load
        with Journal(path) as journal:
            found.append([journal._format(), len(list(journal.read()))])
    print(json.dumps(found))
"""


def test_a_killed_upgrade_leaves_a_whole_log_of_either_format(tmp_path: Path) -> None:
    """After 60 kills at random moments all events are there, and the next writer finishes it."""
    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(LOGS / "format-1.db")]
    path = tmp_path / "clipwatch.db"
    killed = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    outcomes = json.loads(killed.stdout)
    after_kill, after_writer = outcomes[::2], outcomes[1::2]
    assert {tuple(outcome) for outcome in after_kill} == {(1, 20), (FORMAT, 20)}  # both occurred
    assert after_writer == [[FORMAT, 20]] * 60


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Reader and writer say in one line what to do, and change nothing."""
    path = copied(FORMAT, tmp_path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {PACKED + 1}")
    db.execute("DROP TABLE events")
    db.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(JournalError, match=r"newer clipwatch \(format 4.*upgrade") as refused:
            Journal(path, read_only=read_only)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def test_a_format_raised_under_an_open_log_stops_its_users(tmp_path: Path) -> None:
    """A daemon of this version adds nothing to a log that a newer one has taken over meanwhile."""
    path = copied(FORMAT, tmp_path)
    with Journal(path) as journal, Journal(path, read_only=True) as reader:
        count = len(list(reader.read()))
        newer = sqlite3.connect(path)
        newer.execute("ALTER TABLE events ADD COLUMN signature TEXT")
        newer.execute(f"PRAGMA user_version = {PACKED + 1}")
        newer.close()
        with pytest.raises(JournalError, match="newer clipwatch"):
            journal.append(RUN, "s", 0, [OutputDirChecked("")])
        with pytest.raises(JournalError, match="newer clipwatch"):
            list(reader.read())
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM events").fetchone() == (count,)
    db.close()


def fewer(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (JSON without one field that has a default, the value it must decode to)."""
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            for plain, expected in fewer(item):
                before, after = value[:place], value[place + 1 :]
                yield [*plains(before), plain, *plains(after)], (*before, expected, *after)
    if not is_dataclass(value) or isinstance(value, type):
        return
    whole = written(value)
    for field in fields(value):
        if field.name == "scorers":  # which stand apart in the log
            continue
        if field.default is not MISSING:
            plain = {name: part for name, part in whole.items() if name != field.name}
            yield plain, replace(value, **{field.name: field.default})
        for plain, expected in fewer(getattr(value, field.name)):
            yield {**whole, field.name: plain}, replace(value, **{field.name: expected})


def written(value: Any) -> Any:
    """Return a value as it stands in the log."""
    if type(value).__name__ in TYPES:
        return json.loads(encode(value)[1])
    if isinstance(value, EvaluationProtocol):
        return value.written()
    if isinstance(value, ImageScore):
        return json.loads(encode(ImagesScored("", (value,)))[1])["images"][0]
    return msgspec.to_builtins(value)


def plains(values: Any) -> Any:
    return [written(value) for value in values]


def more(plain: Any) -> Any:
    """Return JSON with a field that nobody knows in every object, those of free keys left out."""
    if isinstance(plain, list):
        return [more(item) for item in plain]
    if isinstance(plain, dict):
        free = (
            "settings",
            "environment",
            "made",
            "phases",
            "categories",
            "others",
            "effective",
            "plain",
            "answers",
            "answered",
            "skills",
        )
        known = {key: part if key in free else more(part) for key, part in plain.items()}
        return {**known, "of_tomorrow": 1}
    return plain


def test_an_event_from_before_a_field_existed_gets_the_fields_default() -> None:
    """For each event of the story and each field with a default, nested ones too."""
    tried = set()
    for event in EVENTS:
        for plain, expected in fewer(event):
            name, data = type(event).__name__, msgspec.json.encode(plain).decode()
            assert decode(name, data) == expected
            tried.add((name, data))
    assert {name for name, _ in tried} >= {
        "EvaluationCompleted",
        "EvaluationFailed",
        "ImagesScored",
    }


@pytest.mark.parametrize("event", EVENTS, ids=[type(event).__name__ for event in EVENTS])
def test_fields_of_a_later_version_are_passed_over(event: Event) -> None:
    """Each event of the story reads the same with an unknown field in each of its objects."""
    name, data = encode(event)
    later = json.dumps(more(json.loads(data)))
    assert later.count("of_tomorrow") >= 1
    assert decode(name, later) == event


def test_what_came_to_an_untold_destination_came_to_the_first_that_is_told(tmp_path: Path) -> None:
    """A state directory of the first versions goes on without showing or sending anything twice."""
    events = read(copied(2, tmp_path))
    before = folded(events[:26])
    (second,) = (it for it in before.evaluations if it.startswith("checkpoint-200"))
    assert owed(before, "tracker", "tensorboard") == {before.protocol: (second,)}
    assert owed(before, "channel", "webhook") == {}
    told = [
        DestinationChanged("tracker", "tensorboard", "/room"),
        DestinationChanged("channel", "webhook", "https:0123"),
    ]
    state = evolve({RUN: before}, [(RUN, event, datetime.now(UTC)) for event in told])
    assert owed(state[RUN], "tracker", "tensorboard") == {before.protocol: (second,)}
    assert owed(state[RUN], "channel", "webhook") == {}


def kinds(type_: type[Any], plain: Any) -> Iterator[tuple[str, ...]]:
    """Yield where in an event's JSON a word of few stands, as ("protocol", "seeds")."""
    for name, hint in get_type_hints(type_).items() if isinstance(plain, dict) else ():
        if "Literal" in str(hint) and isinstance(plain.get(name), str):
            yield (name,)
        elif is_dataclass(hint) and isinstance(hint, type):
            yield from ((name, *inner) for inner in kinds(hint, plain[name]))


def test_a_kind_of_a_later_version_stays_as_it_is_written() -> None:
    """Each kind in the story's events may be one that nobody knows, the others are as they were."""
    tried = set()
    for event in EVENTS:
        name, data = encode(event)
        for path in kinds(type(event), json.loads(data)):
            plain = json.loads(data)
            inner = reduce(dict.__getitem__, path[:-1], plain)
            inner[path[-1]] = "of tomorrow"
            later = decode(name, json.dumps(plain))
            assert json.loads(encode(later)[1]) == plain
            tried.add((name, *path))
    assert tried >= {
        ("CheckpointCompleted", "kind"),
        ("CheckpointDiscarded", "kind"),
        ("EvaluationFailed", "kind"),
        ("AdviceGiven", "kind"),
        ("ProtocolDefined", "protocol", "seeds"),
        ("ProtocolDefined", "protocol", "vae_dtype"),
        ("ProtocolContinued", "protocol", "offload"),
    }


@pytest.mark.parametrize("kind", [7, None, ["lora"]])
def test_a_kind_that_is_no_word_is_damage(kind: object) -> None:
    """What no version ever wrote is not read."""
    event = next(it for it in EVENTS if isinstance(it, CheckpointCompleted))
    name, data = encode(event)
    with pytest.raises(msgspec.ValidationError):
        decode(name, json.dumps(json.loads(data) | {"kind": kind}))


def test_a_run_with_unknown_kinds_is_folded(tmp_path: Path) -> None:
    """Nothing is decided by them: such a failure is tried again, such a checkpoint is evaluated."""
    later: list[Recorded] = []
    for item in read(copied(FORMAT, tmp_path)):
        name, data = encode(item.event)
        plain = json.loads(data)
        if "kind" in plain:
            plain["kind"] = "of tomorrow"
        later.append(replace(item, event=decode(name, json.dumps(plain))))
    now, run = folded(read(copied(FORMAT, tmp_path))), folded(later)
    assert [it.state for it in run.checkpoints.values()] == [
        it.state for it in now.checkpoints.values()
    ]
    assert [c.step for c in queue(run)] == [c.step for c in queue(now)]
    assert [story(item.event) for item in later]
