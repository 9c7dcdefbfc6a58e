"""The tables of results, `results.jsonl` and `results.csv`, that every run has."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.protocol import Prompt
from clipwatch.results.series import Series
from clipwatch.testing.series import (
    PROMPTS,
    make_protocol,
    make_series,
    make_target,
    with_everything,
)
from clipwatch_adapters.shared.numbers import Names, scalars
from clipwatch_adapters.tables import HEAD, CsvTable, JsonlTable, Table
from loop_kit import states, until
from results_kit import call
from tracker_kit import bring
from world import World, checkpoint

BOTH = pytest.mark.parametrize("kind", [JsonlTable, CsvTable])


def jsonl(state: Path) -> list[dict[str, Any]]:
    """Return the rows of results.jsonl below a folder."""
    [file] = state.rglob("results.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def table(state: Path) -> list[dict[str, str]]:
    """Return the rows of results.csv below a folder."""
    [file] = state.rglob("results.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def odd(folder: Path) -> Series:
    """Return a series with all there is, late and repeated steps, and names like formulas."""
    prompts = (Prompt("a", "a cat", "=1+1"), Prompt("b", "a dog", "-2"))
    series = make_series(folder, [300, 100, 200, 100], protocol=make_protocol(prompts))
    results = [
        replace(it, checkpoint=f"=cmd|{it.seq}", evaluation=f"=cmd|{it.seq}/ab")
        for it in series.results
    ]
    scores = dict(zip((it.evaluation for it in results), series.results, strict=True))
    told = replace(
        series,
        results=tuple(results),
        scores=lambda id_: series.scores(scores[id_].evaluation),
    )
    return with_everything(replace(told, label="strength 0.6"))


def test_both_hold_the_numbers_that_trackers_show(tmp_path: Path) -> None:
    """A line a step, in their order, whichever result came late; of two of a step the later."""
    target, series = make_target(tmp_path), odd(tmp_path)
    for missing in ([0], [1, 2], [3]):
        for kind in (JsonlTable, CsvTable):
            kind(target).publish(series, missing)
    assert bring(CsvTable(target), series) == bring(JsonlTable(target), series) == {0, 1, 2, 3}
    rows, names = jsonl(tmp_path), Names.of(series)
    assert [(it["step"], it["checkpoint"]) for it in rows] == [
        *((100, "=cmd|3"), (200, "=cmd|2"), (300, "=cmd|0"))
    ]
    for row, seq in zip(rows, (3, 2, 0), strict=True):
        numbers = {name: it for name, it in row.items() if name not in HEAD}
        assert numbers == scalars(names, series.results[seq])
        assert all(map(math.isfinite, numbers.values()))
    assert rows[0] | {"finished": "2026-03-01T12:03:00+00:00"} == rows[0]
    assert {(it["run"], it["series"], it["unit"], it["strength"]) for it in rows} == {
        ("run", "clipwatch", "step", 1.0)
    }
    cells = table(tmp_path)
    assert list(cells[0])[: len(HEAD)] == list(HEAD)
    assert list(cells[0])[len(HEAD) :] == sorted({it for row in rows for it in row} - {*HEAD})
    for row, told in zip(cells, rows, strict=True):
        known = {name: it for name, it in row.items() if it}
        marked = {"checkpoint", "evaluation"}
        assert known == {n: f"'{it}" if n in marked else str(it) for n, it in told.items()}


@BOTH
def test_series_keep_their_lines(tmp_path: Path, kind: type[Table]) -> None:
    """Those of other protocols stay byte for byte, also where numbers come that they lack."""
    target, full = make_target(tmp_path), with_everything(make_series(tmp_path, [100, 200]))
    made = make_protocol(seed=1)
    bare = make_series(tmp_path, [50, 70], name="clipwatch-other", protocol=made)
    for series in (bare, full):
        bring(kind(target), series)
    [file] = tmp_path.rglob("results.*")
    whole = file.read_bytes()
    for series in (bare, full, bare):
        kind(target).publish(series, [0, 1])
        assert file.read_bytes() == whole
    assert oct(file.stat().st_mode) == "0o100600"


@BOTH
@pytest.mark.parametrize("damage", [b"", b"\0\0\0", b"{}\n", b"[1]\n", b"a,b\n1,2\n", b"\xff"])
def test_a_damaged_file_is_mended(tmp_path: Path, kind: type[Table], damage: bytes) -> None:
    """Whatever somebody left there, what lacks is written again, once."""
    target, series = make_target(tmp_path), make_series(tmp_path, [100, 200])
    bring(kind(target), series)
    [file] = tmp_path.rglob("results.*")
    whole = file.read_bytes()
    for broken in (damage, whole[: len(whole) * 2 // 3] + damage, whole + damage):
        file.write_bytes(broken)
        assert bring(kind(target), series) == {0, 1}
    file.write_bytes(damage)
    bring(kind(target), series)
    assert file.read_bytes() == whole


def one(series: Series, seq: int) -> Series:
    """Return the series with one result of it."""
    return replace(series, results=(series.results[seq],))


@BOTH
@pytest.mark.parametrize("order", [[1, 2, 3, 4], [1, 3, 2, 4], [4, 3, 2, 1], [1, 2, 2, 3]])
def test_what_comes_last_is_added(tmp_path: Path, kind: type[Table], order: list[int]) -> None:
    """The file is what it would be if it were written as a whole; else nothing is added."""
    series = make_series(tmp_path, [100 * it for it in order], protocol=make_protocol(PROMPTS))
    series = with_everything(series)
    added, written = kind(make_target(tmp_path / "a")), kind(make_target(tmp_path / "b"))
    for table_ in (added, written):
        table_.publish(series, [0])
    came = []
    for seq in range(1, 4):
        came.append(added.extend(one(series, seq)))
        if not came[-1]:
            added.publish(series, [seq])
        written.publish(series, [seq])
        assert added._file.read_bytes() == written._file.read_bytes()
    last = [step > max(order[:seq]) for seq, step in enumerate(order) if seq]
    last[0] &= kind is JsonlTable  # the second result brings columns: its difference to the first
    assert came == last
    assert added.published(series) == {0, 1, 2, 3}


@BOTH
def test_a_torn_line_is_none(tmp_path: Path, kind: type[Table]) -> None:
    """Cut anywhere in the line that is added, as by a kill, its result lacks and comes whole."""
    target = make_target(tmp_path)
    series = with_everything(
        make_series(tmp_path, [100, 200, 300], protocol=make_protocol(PROMPTS))
    )
    table_ = kind(target)
    table_.publish(series, [0, 1])
    before = len(table_._file.read_bytes())
    assert table_.extend(one(series, 2))
    whole = table_._file.read_bytes()
    for end in range(before, len(whole) - 1):
        table_._file.write_bytes(whole[:end])
        assert kind(target).published(series) == {0, 1}
    kind(target).publish(series, [2])
    assert table_._file.read_bytes() == whole


@BOTH
def test_nothing_is_added_to_what_is_not_ours(tmp_path: Path, kind: type[Table]) -> None:
    """Not before the file was written, beside another's words, behind another series or a gap."""
    series = make_series(tmp_path, [100, 200, 300], protocol=make_protocol(PROMPTS))
    table_ = kind(make_target(tmp_path))
    assert not table_.extend(one(series, 0))
    table_.publish(series, [0])
    whole = table_._file.read_bytes()
    table_._file.write_bytes(whole + b"mine\n")
    assert not table_.extend(one(series, 1))
    table_._file.unlink()
    assert not table_.extend(one(series, 1))
    table_.publish(series, [0, 1])
    other = make_series(tmp_path, [50], name="other", protocol=make_protocol(seed=1))
    table_.publish(other, [0])
    assert not table_.extend(one(series, 2))
    more = with_everything(series)
    assert kind is JsonlTable or not table_.extend(one(replace(more, name="other"), 2))
    assert kind(make_target(tmp_path)).published(series) == {0, 1}


CHILD = """
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters import tables
folder = Path(sys.argv[1])
series = make_series(folder, range(100, 3100, 100), images=False)
print("begun", flush=True)
while True:
    for kind in (tables.JsonlTable, tables.CsvTable):
        table = kind(make_target(folder))
        table.clear(series)
        for seq in range(30):
            table.publish(series, [seq])
"""


def test_a_kill_leaves_whole_files(tmp_path: Path) -> None:
    """Killed at any moment, each file has whole lines, each step once; and then all is there."""
    series = make_series(tmp_path, range(100, 3100, 100), images=False)
    target, luck = make_target(tmp_path), random.Random(1)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout
        child.stdout.readline()
        time.sleep(luck.random() / 5)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        for kind in (JsonlTable, CsvTable):
            held = list(kind(target)._rows())
            steps = [int(it["step"]) for it in held]
            assert steps == sorted(set(steps))
            assert len(kind(target).published(series)) == len(steps)
    for kind in (JsonlTable, CsvTable):
        assert len(bring(kind(target), series)) == 30
    assert [it["step"] for it in jsonl(tmp_path)] == [*range(100, 3100, 100)]
    assert [int(it["step"]) for it in table(tmp_path)] == [*range(100, 3100, 100)]


@pytest.mark.parametrize("trackers", [{}, {"memory": None}], ids=["none", "memory"])
def test_every_run_has_them(tmp_path: Path, trackers: dict[str, None]) -> None:
    """With a tracker or without; neither log nor status says a word of them."""
    world = World(tmp_path)
    world.trackers = {name: world.trackers[name] for name in trackers}
    for step in (100, 200):
        checkpoint(world.output, step)
    assert world.once() == 0
    state = world.settings.paths.state_dir
    means = {it.step: it.clip.mean for it in world.run.evaluations.values() if it.clip}
    assert {it["step"]: it["clip/mean"] for it in jsonl(state)} == means
    assert {int(it["step"]): float(it["clip/mean"]) for it in table(state)} == means
    assert set(means) == {100, 200}
    told = call(state, "log", "--json").stdout
    assert "jsonl" not in told
    assert "csv" not in told
    assert world.run.tracker_names == tuple(trackers)
    shown = call(state, "status")
    assert "csv" not in shown.stdout + "".join(world.said)


def test_a_result_costs_no_more_in_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first two, which bring all columns, neither file is read or written as a whole."""
    world, reads, rows = World(tmp_path), [], Table._rows

    def noted(table_: Table) -> Iterator[dict[str, Any]]:
        reads.append(len(world.run.scored))
        return rows(table_)

    monkeypatch.setattr(Table, "_rows", noted)
    with world.live():
        for step in (100, 200, 300, 400):
            checkpoint(world.output, step)
            until(lambda step=step: len(jsonl_steps(world)) == step // 100)  # type: ignore[misc]
    # before, for (twice, and for CSV's columns) and after the first in both; the same, CSV's second
    assert len(reads) == 14
    assert jsonl_steps(world) == [100, 200, 300, 400]
    assert [int(it["step"]) for it in table(world.settings.paths.state_dir)] == jsonl_steps(world)


def jsonl_steps(world: World) -> list[int]:
    """Return the steps in results.jsonl, none before it is there."""
    state = world.settings.paths.state_dir
    return [it["step"] for it in jsonl(state)] if [*state.rglob("results.jsonl")] else []


def test_a_whole_table_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late result has the file written anew, and checkpoints are scored and shown meanwhile."""
    world, go_on, whole = World(tmp_path), threading.Event(), Table.publish

    def slow(self: Table, series: Series, missing: Sequence[int]) -> None:
        assert len(series.results) < 3 or go_on.wait(60)
        whole(self, series, missing)

    monkeypatch.setattr(Table, "publish", slow)
    with world.live():
        for step in (100, 300):
            checkpoint(world.output, step)
            until(lambda step=step: step in jsonl_steps(world))  # type: ignore[misc]
        for step in (200, 400):
            checkpoint(world.output, step)
            until(lambda step=step: states(world).get(step) == "published")  # type: ignore[misc]
        assert jsonl_steps(world) == [100, 300]
        go_on.set()
    assert jsonl_steps(world) == [100, 200, 300, 400]
    assert [int(it["step"]) for it in table(world.settings.paths.state_dir)] == jsonl_steps(world)


def test_they_follow_the_log(tmp_path: Path) -> None:
    """What lacks comes with the next start: of an older log, and where somebody removed them."""
    world = World(tmp_path)
    checkpoint(world.output, 100)
    assert world.once() == 0
    state = world.settings.paths.state_dir
    files = [*state.rglob("results.*")]
    whole = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    events = len(world.logged)
    assert world.once() == 0
    assert [file.read_bytes() for file in files] == whole
    assert len(world.logged) == events


def test_what_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    """And ends nothing: neither the other table, nor the run with another code."""
    world = World(tmp_path)
    for step in (100, 200):
        checkpoint(world.output, step)
    state = world.settings.paths.state_dir
    state.mkdir(exist_ok=True)
    (state / "csv").write_text("")
    assert world.once() == 0
    [said] = [it for it in world.said if "csv" in it]
    assert "Not a directory" in said or "File exists" in said
    assert {it["step"] for it in jsonl(state)} == {100, 200}


def test_a_long_queue_is_not_written_down_again_for_each_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest is scored first, so that each one comes late: all stand there in the end."""
    monkeypatch.setattr("clipwatch.loop.tables.PAUSE_SECONDS", 3600.0)
    written, replace_ = list[str](), Table._replace

    def note(self: Table, *asked: Any) -> Any:
        written.append(self.name)
        return replace_(self, *asked)

    monkeypatch.setattr(Table, "_replace", note)
    world = World(tmp_path)
    for step in range(1, 9):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    assert [row["step"] for row in jsonl(world.folder)] == list(range(1, 9))
    assert [row["step"] for row in table(world.folder)] == [str(it) for it in range(1, 9)]
    assert sorted(written) == ["csv", "csv", "jsonl", "jsonl"]
