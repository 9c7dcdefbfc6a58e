"""`clipwatch compact`: less room, and not a word less."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.events import Event, ImageScore, ImagesScored, OutputDirChecked
from clipwatch.domain.further import FurtherScore, ImagesRescored
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.packed import FIELDS, MOST, packed, unpacked
from clipwatch.domain.written import decode, encode
from clipwatch.journal import Journal, Recorded, log_file, store
from clipwatch.journal.checked import Mark
from clipwatch.journal.compacting import compact
from clipwatch.journal.logformat import FORMAT, PACKED, LogDamaged
from clipwatch.journal.projection import read_state
from clipwatch.journal.repair.inspection import Fault, verify
from clipwatch.kit.errors import LogLocked
from clipwatch.loop.run_log import when_unlocked
from clipwatch.results.reading import read_images, read_rescored
from clipwatch.service.heartbeat import HeartbeatFile
from clipwatch.tasks.importing import Asked, take_over
from histories import LATER, RUNS, evaluated, write
from loop_kit import until
from results_kit import call
from world import Ear


def quiet(_: str) -> None:
    """Say nothing."""


def everything(folder: Path) -> dict[str, Any]:
    """Return all that any command shows of a log, but for the numbers of its events."""
    log = log_file(folder)
    state = read_state(log)
    found: dict[str, Any] = {"state": state}
    with Journal(log, read_only=True) as journal:
        for run in state.values():
            for id_ in run.evaluations:
                key = f"{run.name} {id_}"
                found[key] = read_images(journal, run.name, id_)
                found[f"{key} alone"] = read_images(journal, run.name, id_, further=False)
                found[f"{key} later"] = [
                    read_rescored(journal, run.name, id_, name) for name in LATER
                ]
    found["export"] = call(folder, "export", "--format", "csv").output
    found["status"] = call(folder, "status").output
    return found


def rows(log: Path) -> list[Recorded]:
    """Return what a log holds; nothing is wrong with it."""
    found = list(verify(log))
    assert [str(it) for it in found if isinstance(it, Fault)] == []
    with Journal(log, read_only=True) as journal:
        assert list(journal.read()) == found
    return [it for it in found if isinstance(it, Recorded)]


def images(log: Path) -> dict[str, list[list[Any]]]:
    """Return by stream how images stand together."""
    found = defaultdict[str, list[list[Any]]](list)
    for it in rows(log):
        if isinstance(it.event, ImagesScored):
            found[it.stream].append([(each.prompt_id, each.scores) for each in it.event.images])
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.thorough(but=1)
def test_any_history_says_the_same_in_less_room(tmp_path: Path, seed: int) -> None:
    """State, every image's scores, export and status; a second time there is nothing to do."""
    folder = tmp_path
    log = write(folder, seed)
    before, told, batches = everything(folder), rows(log), images(log)
    found = compact(log, None, quiet)
    assert everything(folder) == before
    after, joined = rows(log), images(log)
    assert found.events == (len(told), len(after))
    assert [it.seq for it in after] == [*range(1, len(after) + 1)]
    scored = {
        f"evaluation/{run}/{it.id}"
        for run in RUNS
        for it in before["state"][run].evaluations.values()
        if it.clip
    }
    assert {it: joined[it] for it in batches.keys() - scored} == {
        it: batches[it] for it in batches.keys() - scored
    }
    assert {it: [*chain(*joined[it])] for it in joined} == {
        it: [*chain(*batches[it])] for it in batches
    }
    plain = [it for it in told if type(it.event).__name__ not in FIELDS]
    kept = [it for it in after if type(it.event).__name__ not in FIELDS]
    assert [(it.time, it.run, it.stream, it.event) for it in kept] == [
        (it.time, it.run, it.stream, it.event) for it in plain
    ]
    whole = log.read_bytes()
    assert not compact(log, None, quiet).changed
    assert [it.event for it in rows(log)] == [it.event for it in after]
    assert len(log.read_bytes()) == len(whole)
    left = {"clipwatch.db", "clipwatch.db-checked"}
    assert {it.name for it in folder.iterdir()} == left


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three runs with twelve evaluations."""
    return write(tmp_path, 7, 12)


def test_batches_of_what_is_finished_become_one(log: Path, tmp_path: Path) -> None:
    """But for those behind the name of a part, and those that something stands between."""
    before = everything(tmp_path)
    said: list[str] = []
    found = compact(log, None, said.append)
    assert found.events[1] < found.events[0]
    assert [*dict.fromkeys(it.partition(":")[0] for it in said)] == [
        "checking",
        "writing",
        "comparing",  # as long as the others together
    ]
    assert said[-1] == "comparing: {0:,} of {0:,} events".format(found.events[1])
    assert everything(tmp_path) == before
    streams = defaultdict[str, list[Event]](list)
    for it in rows(log):
        streams[it.stream].append(it.event)
    scored = {
        f"evaluation/{run}/{it.id}"
        for run in RUNS
        for it in before["state"][run].evaluations.values()
        if it.clip
    }
    beside = [
        (type(told[place - 1]), told[place], told[place + 1])
        for stream, told in streams.items()
        for place in range(1, len(told) - 1)
        if stream in scored
    ]
    apart = {
        first
        for first, one, two in beside
        if isinstance(one, ImagesScored) and isinstance(two, ImagesScored)
    }
    assert apart <= {EvaluationImported}


def test_the_old_log_is_kept_and_the_new_one_is_like_any_other(log: Path, tmp_path: Path) -> None:
    """It refuses changes, is private, known to be sound, and goes on."""
    old = rows(log)
    said = call(tmp_path, "compact")
    assert said.exit_code == 0, said.output
    [kept] = tmp_path.glob("clipwatch.db-2*")
    assert said.stdout.endswith(f"the log as it was: {kept}\n")
    assert rows(kept) == old
    assert log.stat().st_mode & 0o777 == 0o600
    with Journal(log) as journal:
        assert journal.written_as() == PACKED
        assert journal.known == journal.last() > 0
        with sqlite3.connect(log) as stranger, pytest.raises(sqlite3.Error, match="append-only"):
            stranger.execute("DELETE FROM events")
        stranger.close()
        stream = f"run/{RUNS[0]}"
        journal.append(RUNS[0], stream, journal.version(stream), [OutputDirChecked("gone")])
    assert read_state(log)[RUNS[0]].problem == "gone"
    assert call(tmp_path, "log", "--verify").exit_code == 0
    told = call(tmp_path, "log", "--json").stdout
    assert '"images": [{' in told
    assert '"columns"' not in told


def test_without_a_backup_there_is_none(log: Path, tmp_path: Path) -> None:
    """Only the new log is there."""
    before = log.stat().st_ino
    assert call(tmp_path, "compact", "--no-backup").exit_code == 0
    assert log.stat().st_ino != before
    assert [*tmp_path.glob("clipwatch.db-2*")] == []


def test_a_dry_run_tells_and_writes_nothing(log: Path, tmp_path: Path) -> None:
    """The events are those of the real one, whose file shrinks about as much."""
    before = {it: it.read_bytes() for it in tmp_path.iterdir()}
    told = call(tmp_path, "compact", "--dry-run").stdout
    assert {it: it.read_bytes() for it in tmp_path.iterdir()} == before
    assert "would be" in told
    found = compact(log, None, quiet)
    assert f"{found.events[0]:,} events would be {found.events[1]:,}, " in told
    assert call(tmp_path, "compact", "--dry-run").stdout == "nothing to compact\n"
    assert call(tmp_path, "compact").stdout == "nothing to compact\n"
    with Journal(log) as journal:
        assert journal.known == journal.last()  # all was looked at, and need not be once more


def test_a_log_without_an_event_has_nothing_to_compact(tmp_path: Path) -> None:
    """A file that its writer, or a person, has only just made; a trial says so, too."""
    log_file(tmp_path).touch()
    for arguments in (["--dry-run"], []):
        said = call(tmp_path, "compact", *arguments)
        assert (said.exit_code, said.output) == (0, "nothing to compact\n")


def test_a_log_in_use_is_refused_in_one_line(log: Path, tmp_path: Path) -> None:
    """By a daemon that lives, by any other program that has it open; nothing is changed."""
    with Journal(log) as journal:
        said = call(tmp_path, "compact")
        assert (said.exit_code, said.stdout) == (1, "")
        assert said.stderr == f"Error: {log}: another program has it open: stop that one first\n"
        journal.append("r", "other", 0, [OutputDirChecked("")])
    heart = HeartbeatFile(tmp_path, RUNS[0], Path("/out"))
    heart.beat("well")
    said = call(tmp_path, "compact")
    assert (said.exit_code, said.stderr) == (
        1,
        f"Error: {RUNS[0]}: is watched just now: stop that first\n",
    )
    heart.stop()
    assert call(tmp_path, "compact").exit_code == 0
    assert call(tmp_path / "nowhere", "compact").exit_code == 1


def test_who_comes_meanwhile_waits_and_writes_into_the_new_log(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that has the old file open already gets no way to write into it."""
    monkeypatch.setattr("clipwatch.loop.run_log.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("clipwatch.journal.store.BUSY_SECONDS", 0.01)
    said: list[str] = []
    opened: list[Journal] = []
    strangers: list[sqlite3.Connection] = []

    def start() -> None:
        opened.append(when_unlocked(lambda: Journal(log), said.append, once=False))
        opened[0].append(RUNS[0], "run/late", 0, [OutputDirChecked("")])
        opened[0].__exit__()

    starting = threading.Thread(target=start)

    def come(told: str) -> None:
        if told.startswith("writing") and not strangers:
            strangers.append(sqlite3.connect(log))
            assert strangers[0].execute("SELECT count(*) FROM events").fetchone()
            starting.start()
            until(lambda: bool(said))

    kept = log.with_name("kept")
    found = compact(log, kept, come)
    starting.join()
    assert said == [f"{log}: another program keeps it locked: close that program: waiting for it"]
    with pytest.raises(sqlite3.OperationalError) as refused:
        strangers[0].execute("PRAGMA journal_mode = WAL")
    assert refused.value.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
    strangers[0].close()
    assert (len(rows(kept)), len(rows(log))) == (found.events[0], found.events[1] + 1)


def test_a_damaged_log_stays_as_it_is(log: Path) -> None:
    """It is told which event is damaged."""
    data = log.read_bytes()
    place = data.index(b'"prompt_id"')
    log.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    before = log.read_bytes()
    with pytest.raises(LogDamaged, match=r"event \d+ is damaged"):
        compact(log, None, quiet)
    assert log.read_bytes() == before
    assert [it.name for it in log.parent.glob(".*")] == []


def test_an_import_from_a_compacted_log_brings_nothing_twice(tmp_path: Path) -> None:
    """What came before it was compacted and what comes after are the same results."""
    log = write(tmp_path / "there", 3, 12)
    here, later = tmp_path / "here", tmp_path / "later"
    first = take_over(here, Asked((tmp_path / "there",)), Ear([]))
    compact(log, None, quiet)
    again = take_over(here, Asked((tmp_path / "there",)), Ear([]))
    assert sum(it.taken for it in first) == sum(it.had for it in again) > 0
    assert sum(it.taken for it in again) == 0
    take_over(later, Asked((tmp_path / "there",)), Ear([]))
    for run, known in read_state(log_file(here)).items():
        with Journal(log_file(here)) as one, Journal(log_file(later)) as two:
            assert all(
                read_images(one, run, it) == read_images(two, run, it) for it in known.evaluations
            )
    compact(log_file(here), None, quiet)
    assert [it.taken for it in take_over(here, Asked((tmp_path / "there",)), Ear([]))] == [
        0 for _ in again
    ]


def test_large_evaluations_stand_in_pieces(tmp_path: Path) -> None:
    """Who reads a page of events holds them in memory."""
    from results_kit import Log, protocol

    made = protocol(3 * MOST)
    log = Log(tmp_path)
    log.start("big", made)
    log.score("big", 1, {it.id: [0.25] for it in made.prompts}, made)
    compact(log_file(tmp_path), None, quiet)
    sizes = [len(it) for its in images(log_file(tmp_path)).values() for it in its]
    assert sizes == [MOST] * 3
    assert not compact(log_file(tmp_path), None, quiet).changed


values = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3)
cells = values | st.dictionaries(st.sampled_from("ab"), values, max_size=2)


@given(
    st.lists(st.sampled_from("xyz"), unique=True, min_size=1).flatmap(
        lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, cells)), max_size=4)
    )
)
def test_columns_are_rows_again(rows: list[dict[str, Any]]) -> None:
    """Whatever is in them, of the same type and sign."""
    told = {"evaluation": "e", "images": rows}
    again = unpacked(packed(told, "images"), "images")
    one, other = (msgspec.json.encode(it, order="sorted") for it in (again, told))
    assert one == other


def test_a_log_that_is_replaced_as_it_is_opened_is_opened_anew(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two system calls of an opening; nothing could be written by it later."""
    looked = store._refuse_damaged

    def replaced(path: Path, now: datetime) -> Mark | None:
        monkeypatch.undo()
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").replace(path)
        return looked(path, now)

    monkeypatch.setattr("clipwatch.journal.store._refuse_damaged", replaced)
    said: list[str] = []
    with when_unlocked(lambda: Journal(log), said.append, once=False) as opened:
        assert opened.append(RUNS[0], "run/late", 0, [OutputDirChecked("")]) == 1
    assert said == [f"{log}: is just written anew: try again in a moment: waiting for it"]


def test_a_fresh_log_is_of_the_usual_format(tmp_path: Path) -> None:
    """Only what is compacted asks for a clipwatch that knows columns."""
    with Journal(log_file(tmp_path)) as journal:
        assert journal.written_as() == FORMAT < PACKED


def test_histories_have_what_they_are_for() -> None:
    """Batches, failures, parts and later scorers, or the tests above show little."""
    import random

    chance = random.Random(0)
    told = [event for n in range(40) for _, event in evaluated(chance, "r", n)]
    kinds = {type(it).__name__ for it in told}
    assert kinds >= {*FIELDS, "EvaluationFailed", "EvaluationImported", "EvaluationRescored"}
    assert all(encode(it) for it in told)


def test_a_lock_is_told_as_one(log: Path) -> None:
    """Whoever calls it in a program can wait."""
    with Journal(log), pytest.raises(LogLocked):
        compact(log, None, quiet)


def test_columns_as_they_were_first_written_are_read_for_ever() -> None:
    """This is what stands in compacted logs."""
    data = (
        '{"evaluation":"e/1","images":{"rows":2,"columns":{"prompt_id":{"begin":"p","rest":'
        '["0","1"]},"index":{"all":0},"seed":{"each":[7,8]},"image":{"each":[null,"e/1/p1.png"]},'
        '"look":{"all":""},"pixels":{"begin":"0a","rest":["b","c"]},"score":{"each":[0.25,0.5]},'
        '"others":{"of":{"siglip":{"each":[0.125,0.75]}}}}}}'
    )
    assert decode("ImagesScored", data) == ImagesScored(
        "e/1",
        (
            ImageScore("p0", 0, 7, {"": 0.25, "siglip": 0.125}, None, "", "0ab"),
            ImageScore("p1", 0, 8, {"": 0.5, "siglip": 0.75}, "e/1/p1.png", "", "0ac"),
        ),
    )
    data = (
        '{"evaluation":"e/1","scorer":"pick","scores":{"rows":1,"columns":{"prompt_id":'
        '{"all":"p0"},"index":{"all":0},"score":{"all":20.5}}}}'
    )
    later = ImagesRescored("e/1", "pick", (FurtherScore("p0", 0, 20.5),))
    assert decode("ImagesRescored", data) == later


@pytest.mark.parametrize(
    "images",
    [
        '{"rows":2,"columns":{"index":{"each":[0]}}}',
        '{"rows":1}',
        '{"rows":1,"columns":{"a":7}}',
        '{"rows":1000000000000,"columns":{"index":{"all":0}}}',
    ],
)
def test_columns_that_are_none_are_damage(images: str) -> None:
    """What no version ever wrote is not read."""
    with pytest.raises(msgspec.ValidationError):
        decode("ImagesScored", f'{{"evaluation":"e","images":{images}}}')
