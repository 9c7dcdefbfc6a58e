"""A log of many runs: who needs one of them reads no other."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clipwatch.domain.events import OutputDirChecked, OutputDirMoved
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection, read_state, run_names
from clipwatch.judging.base import Question
from clipwatch.judging.log_judge import LogJudge
from clipwatch.loop import recognising
from clipwatch.loop.recognising import Recognised, recognise
from histories import RUNS, write
from results_kit import call


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three runs with twelve evaluations."""
    return write(tmp_path, 11, 12)


def told(log: Path, run: str, problem: str) -> None:
    """Have something happen to a run."""
    with Journal(log) as journal:
        stream = f"run/{run}"
        journal.append(run, stream, journal.version(stream), [OutputDirChecked(problem)])
        journal.known = journal.last()


@pytest.mark.parametrize("vouched", [True, False])
def test_one_run_means_what_it_means_among_all(log: Path, vouched: bool) -> None:
    """After a normal end and after a kill, and as all of them go on."""
    if not vouched:
        log.with_name(f"{log.name}-checked").unlink()
    with Journal(log) as journal, Journal(log, read_only=True) as reader:
        assert (journal.known > 0) == vouched
        alone = {run: Projection(journal, run) for run in RUNS}
        all_ = Projection(reader)
        for other in (*RUNS, *RUNS):
            alone[other].record(other, f"run/{other}", OutputDirChecked("gone"))
            for run, projection in alone.items():
                projection.catch_up()
                all_.catch_up()
                assert projection.state == {run: all_.state[run]}
                assert projection.seq == all_.seq == journal.last()


def test_a_run_that_is_not_begun_begins_among_others(log: Path) -> None:
    """What is known of it then is its own alone."""
    with Journal(log) as journal:
        projection = Projection(journal, "new")
        assert projection.state == {}
        begun = next(it.event for it in journal.of_types("RunStarted"))
        projection.record("new", "run/new", begun)
        assert projection.state.keys() == {"new"}


def test_a_log_without_the_index_is_read_all_the_same(log: Path) -> None:
    """As one of an earlier version, which gets it at its next start."""
    states = {run: read_state(log, run) for run in RUNS}
    plan = "EXPLAIN QUERY PLAN SELECT * FROM events WHERE "
    with closing(sqlite3.connect(log)) as db:
        db.execute("DROP INDEX events_of_runs")
        db.execute("PRAGMA journal_mode = DELETE")
    assert {run: read_state(log, run) for run in RUNS} == states
    assert run_names(log) == [*RUNS]
    with Journal(log) as journal:
        which = journal._indexed("run = 'r' AND type NOT IN ('ImagesScored', 'ImagesRescored')")
        steps = [row[3] for row in journal._db.execute(plan + which)]
        assert any("USING COVERING INDEX events_of_runs (run=?)" in it for it in steps), steps
        assert any("USING INTEGER PRIMARY KEY (rowid=?)" in it for it in steps), steps
    assert read_state(log) == {run: state for its in states.values() for run, state in its.items()}


def test_a_folder_that_is_named_is_recognised_without_its_checkpoints(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the path that its run has now; only what is not named is looked for by its weights."""
    with Journal(log) as journal:
        stream = f"run/{RUNS[1]}"
        journal.append(RUNS[1], stream, journal.version(stream), [OutputDirMoved("/moved")])
    slow = {it: recognise(log, it) for it in (f"/{RUNS[1]}", "/elsewhere")}
    assert slow[f"/{RUNS[1]}"].name not in RUNS

    def refuse(_log: Path) -> None:
        raise AssertionError("all runs are read")

    monkeypatch.setattr(recognising, "known_runs", refuse)
    assert recognise(log, "/moved") == Recognised(RUNS[1])
    assert recognise(log, f"/{RUNS[0]}") == Recognised(RUNS[0])
    with pytest.raises(AssertionError):
        recognise(log, "/elsewhere")
    with pytest.raises(AssertionError):  # its files are no training's
        recognise(log, "/moved", "files")


def test_status_of_one_run_shows_that_alone(log: Path) -> None:
    """By its name or the beginning of it, as text and as JSON; one that is not there is told."""
    whole = json.loads(call(log.parent, "status", "--json").stdout)["runs"]
    assert [it["run"] for it in whole] == [*RUNS]
    for beginning, names in (("cats", RUNS[:2]), ("cats-f", RUNS[1:2]), (RUNS[2], RUNS[2:])):
        found = json.loads(call(log.parent, "status", beginning, "--json").stdout)["runs"]
        assert found == [it for it in whole if it["run"] in names]
        text = call(log.parent, "status", beginning).stdout
        assert [it in text for it in RUNS] == [it in names for it in RUNS]
    said = call(log.parent, "status", "birds")
    assert (said.exit_code, said.stderr) == (
        1,
        f"Error: no run has a name that begins with 'birds'; known: {', '.join(RUNS)}\n",
    )


def test_who_judges_one_run_knows_no_other(log: Path) -> None:
    """One after the other, they are judged as by who begins anew."""
    state = read_state(log)
    questions = [
        Question(str(log), run, it.id, 0.22, 0.3, 3, {}, 20)
        for run in (*RUNS, *RUNS)
        for it in state[run].evaluations.values()
        if it.clip
    ]
    assert len(questions) > 6
    judge = LogJudge()
    for place, question in enumerate(questions):
        told(log, question.run, f"problem {place}")
        assert judge.judge(question) == LogJudge().judge(question)
        assert judge._state.keys() == judge._runs
    assert judge._state == read_state(log)
