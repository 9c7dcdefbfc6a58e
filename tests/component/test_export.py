"""`clipwatch export`: every image's scores as a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import BASE_NAME
from clipwatch.journal import Journal, log_file
from clipwatch.results.results import Results, open_results
from clipwatch.results.rows import image_rows
from clipwatch.tasks import export
from clipwatch_adapters.tables import HEAD
from docs_kit import tables
from places import ROOT
from results_kit import Log, call, protocol, shifted

FORMULA = "=HYPERLINK(\"http://example.org\"),'x'"
PROMPTS = (
    Prompt("calc", FORMULA, "-1+1"),
    Prompt("zażółć", 'a "quoted"\ncat', "@home", strength=0.5),
)
MADE = replace(protocol(2, images_per_prompt=2), prompts=PROMPTS)
SCORES = {"zażółć": [0.3, 0.25], "calc": [0.2, -0.125]}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A run with a base, two steps scored late first, and an earlier protocol; and another run."""

    def draw(evaluation: str, prompt: str, index: int) -> str:
        name = f"{evaluation.replace('/', '-')}/{prompt}-{index}.png"
        if index == 0:  # the others are not kept
            path = made.folder / "images" / "lora" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return name

    made = Log(tmp_path / "state")
    made.start("lora", protocol(2))
    made.score("lora", 100, {"p0000": [0.1], "p0001": [0.2]}, protocol(2))
    made.change("lora", MADE)
    siglip = {"siglip": shifted(SCORES, 0.5)}
    made.score("lora", 200, SCORES, MADE, others=siglip, draw=draw)
    made.score("lora", 100, shifted(SCORES, 0.01), MADE)
    made.score("lora", 0, SCORES, MADE, name=BASE_NAME)
    made.start("other", protocol(2))
    made.score("other", 7, {"p0000": [0.5], "p0001": [0.6]}, protocol(2))
    return made


def exported(log: Log, *arguments: str) -> list[dict[str, Any]]:
    """Return the rows that are printed as JSON Lines."""
    said = call(log.folder, "export", *arguments)
    assert (said.exit_code, said.stderr) == (0, "")
    return [json.loads(line) for line in said.stdout_bytes.decode().splitlines()]


def test_a_row_has_all_of_an_image(log: Log) -> None:
    """Each image once for each scorer, by protocol, step and prompt, with what made it."""
    rows = exported(log, "lora")
    assert [(it["step"], it["scorer"]) for it in rows] == [
        *[(100, "clip")] * 2,
        *[(0, "clip")] * 4,
        *[(100, "clip")] * 4,
        *[(200, "clip"), (200, "siglip")] * 4,
    ]
    assert {it["protocol"] for it in rows[:2]} == {protocol(2).digest}
    first, second = rows[10:12]
    finished = datetime.fromisoformat(first.pop("finished"))
    assert timedelta() < datetime.now(UTC) - finished < timedelta(hours=1)
    assert first == {
        "run": "lora",
        "protocol": MADE.digest,
        "strength": 1.0,
        "step": 200,
        "unit": "step",
        "checkpoint": "checkpoint-200",
        "evaluation": f"checkpoint-200/wwwwwwww/{MADE.digest[:8]}",
        "prompt_id": "calc",
        "prompt": FORMULA,
        "category": "-1+1",
        "index": 0,
        "seed": 0,
        "scorer": "clip",
        "score": 0.2,
        "image": str(
            log.folder / f"images/lora/checkpoint-200-wwwwwwww-{MADE.digest[:8]}/calc-0.png"
        ),
    }
    assert (second["scorer"], second["score"]) == ("siglip", pytest.approx(0.7))
    assert rows[12]["index"] == 1
    assert rows[12]["image"] is None
    assert rows[14]["strength"] == 0.5
    assert {it["strength"] for it in rows[2:6]} == {None}


def test_all_runs_or_those_that_are_named(log: Log) -> None:
    """By the beginning of a name, each once."""
    assert {it["run"] for it in exported(log)} == {"lora", "other"}
    assert [it["score"] for it in exported(log, "oth", "other")] == [0.5, 0.6]
    said = call(log.folder, "export", "none")
    assert said.exit_code == 1
    assert "known: lora, other" in said.stderr


def test_every_format_has_the_same(log: Log, tmp_path: Path) -> None:
    """Columns, order and values; CSV alone marks what a spreadsheet would compute."""
    rows = exported(log)
    for ending in ("jsonl", "csv", "PARQUET"):
        said = call(log.folder, "export", "-o", str(tmp_path / f"table.{ending}"))
        assert said.stdout == f"{tmp_path}/table.{ending}: {len(rows)} rows\n"
    lines = (tmp_path / "table.jsonl").read_text("utf-8").splitlines()
    assert [list(json.loads(it).items()) for it in lines] == [list(it.items()) for it in rows]
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        head, *cells = csv.reader(file)
    assert tuple(head) == export.COLUMNS
    plain = [["" if it is None else str(it) for it in row.values()] for row in rows]
    marked = {FORMULA: f"'{FORMULA}", "-1+1": "'-1+1", "@home": "'@home"}
    assert cells == [[marked.get(it, it) for it in row] for row in plain]
    assert "-0.125" in {row[head.index("score")] for row in cells}
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "table.PARQUET")
    assert tuple(table.column_names) == export.COLUMNS
    assert table.to_pylist() == rows


def test_the_format_may_be_named(log: Log, tmp_path: Path) -> None:
    """It goes before the file's ending; printed CSV is that of the file."""
    said = call(log.folder, "export", "other", "--format", "csv")
    file = tmp_path / "table.jsonl"
    assert call(log.folder, "export", "other", "--format", "csv", "-o", str(file)).exit_code == 0
    assert said.stdout_bytes == file.read_bytes()
    assert len(list(csv.reader(io.StringIO(said.stdout)))) == 3


def test_one_evaluation_is_held_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images a log has: the first rows are there before the next is read."""
    real, read = Results.read, list[int]()

    def counted(self: Results, *named: Any) -> Any:
        read.append(1)
        return real(self, *named)

    monkeypatch.setattr(Results, "read", counted)
    with open_results(log_file(log.folder)) as results:
        rows = image_rows(results, results.state.values())
        assert len(list(islice(rows, 2))) == 2
        assert len(read) == 1
        assert len(list(rows)) == 18
    assert len(read) == 5
    assert results._images == {}


def test_it_works_beside_a_daemon(log: Log) -> None:
    """Another process has the log open for writing; a result that comes is in the next table."""
    with Journal(log_file(log.folder)):
        before = len(exported(log))
        log.score("other", 8, {"p0000": [0.5], "p0001": [0.6]}, protocol(2))
        assert len(exported(log)) == before + 2


def test_what_cannot_be_is_refused(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and exit code 2, before anything is read or made."""
    os.mkfifo(tmp_path / "pipe")
    wrong = {
        ("--format", "xlsx"): "'xlsx' is not one of 'jsonl', 'csv', 'parquet'",
        ("--format", "parquet"): "Error: parquet is not for reading: name a file with -o\n",
        ("-o", str(tmp_path)): "is a directory",
        ("-o", str(tmp_path / "no/table.csv")): "cannot be made: No such file or directory",
        ("-o", str(tmp_path / "pipe")): "pipe is no file",
    }
    before = sorted(tmp_path.iterdir())
    for arguments, told in wrong.items():
        said = call(log.folder, "export", *arguments)
        assert (said.exit_code, said.stdout) == (2, "")
        assert told in said.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = call(log.folder, "export", "-o", str(tmp_path / "table.parquet"))
    assert said.exit_code == 2
    fix = "pip install 'clipwatch[parquet]', or take csv or jsonl"
    assert said.stderr == f"Error: parquet needs a package: {fix}\n"
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_is_whole_or_not_there(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it fails amid the rows the earlier file stays, and nothing beside it."""
    file = tmp_path / "table.csv"
    file.write_text("earlier")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(os, "fsync", full)
    said = call(log.folder, "export", "-o", str(file))
    assert said.exit_code == 1
    assert file.read_text() == "earlier"
    assert [it.name for it in tmp_path.iterdir() if "table" in it.name] == ["table.csv"]


def test_nothing_is_a_failure(tmp_path: Path) -> None:
    """As of `best`: no log, and one without scores."""
    assert call(tmp_path, "export").exit_code == 1
    log = Log(tmp_path)
    log.start("r")
    said = call(tmp_path, "export")
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == "Error: nothing is scored yet: clipwatch status shows why\n"


def test_the_columns_are_documented() -> None:
    """In their order; of results what stands before the numbers."""
    found = [it[1:] for it in tables(ROOT / "docs/export.md") if it[0][0] == "column"]
    results, images = ([re.sub("`", "", row[0]) for row in rows] for rows in found)
    assert results == [*HEAD, "clip/mean and all others"]
    assert tuple(images) == export.COLUMNS
