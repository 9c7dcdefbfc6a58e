"""`clipwatch import` of what `clipwatch export` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.events import ProtocolDefined
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import Prompt, ScorerSpec
from clipwatch.domain.questions import Question
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.view import rows as status_rows
from clipwatch.statistics import summarize
from import_kit import MADE, OTHER, RUN, Machine, Scored, files, held
from results_kit import Log, call, protocol


@pytest.fixture
def two(tmp_path: Path) -> tuple[Machine, Machine]:
    """Two machines that have both seen step 200, which the second has not scored."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", "lora-fedcba", "/mnt", begun=30)
    a.see(Scored(100, 1), Scored(200, 2))
    a.score(Scored(100, 1), Scored(200, 2), images=True)
    b.see(Scored(100, 31), Scored(200, 32))
    return a, b


def table(machine: Machine, form: str = "jsonl") -> Path:
    """Export a machine's results."""
    file = machine.folder.parent / f"scores.{form}"
    assert call(machine.folder, "export", "-o", str(file)).exit_code == 0
    return file


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_format_is_read_back(form: str, two: tuple[Machine, Machine]) -> None:
    """The same scores, sums and times; no images, which a table has not."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    a, b = two
    file = table(a, form)
    said = call(b.folder, "import", str(file))
    assert (said.exit_code, said.stderr) == (0, "")
    told = f"{RUN} is lora-fedcba here, the same run: 2 results imported\n"
    assert said.stdout.startswith(told)
    (mine, _, _), (theirs, _, _) = held(b.folder)["lora-fedcba"], held(a.folder)[RUN]
    assert mine.keys() == theirs.keys()
    for id_, (finished, step, clip, images, _) in mine.items():
        other = theirs[id_]
        assert (finished, step) == other[:2]
        assert clip.mean == pytest.approx(other[2].mean, abs=1e-15)
        assert clip.low is not None
        scores = [(it.prompt_id, it.index, it.seed, it.scores, it.image) for it in images]
        assert scores == [(it.prompt_id, it.index, it.seed, it.scores, None) for it in other[3]]
    (run,) = read_state(log_file(b.folder)).values()
    assert {it.source for it in run.evaluations.values()} == {str(file)}
    assert [(it.step, it.state) for it in status_rows(run)] == [(100, "scored"), (200, "scored")]
    before = files(b.folder)
    assert "nothing to import, 2 were here already" in call(b.folder, "import", str(file)).stdout
    assert files(b.folder) == before


def test_texts_that_were_marked_are_as_they_were(two: tuple[Machine, Machine]) -> None:
    """A prompt's name that a spreadsheet would compute comes back from CSV."""
    made = replace(MADE, prompts=(Prompt("=1+1", "@home"), Prompt("'-x", "y")))
    for machine in two:
        machine.add(f"run/{machine.run}", 3, ProtocolDefined(made.digest, made))
    a, b = two
    a.score(Scored(100, 5, made=made))
    file = table(a, "csv")
    assert ",'=1+1,'@home," in file.read_text()
    assert call(b.folder, "import", str(file)).exit_code == 0
    (mine, _, _), (theirs, _, _) = held(b.folder)["lora-fedcba"], held(a.folder)[RUN]
    id_ = Scored(100, 5, made=made).id
    assert [(it.prompt_id, it.score) for it in mine[id_][3]] == [
        (it.prompt_id, it.score) for it in theirs[id_][3]
    ]


def test_a_table_does_not_tell_what_a_protocol_is(tmp_path: Path) -> None:
    """Results under one that this log does not know stay out, with a line; none is a failure."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", begun=3)
    a.see(Scored(100, 1))
    b.see(Scored(100, 1))
    strange = protocol(2, seed=9)
    a.score(Scored(100, 1, made=strange))
    unknown = f"1 results under protocol {strange.digest}: this log does not know it"
    with_it = Log(a.folder)
    with_it.change(RUN, strange)
    said = call(b.folder, "import", str(table(a)))
    assert said.exit_code == 1
    assert unknown in said.stderr
    a.score(Scored(100, 1))
    said = call(b.folder, "import", str(table(a)))
    assert said.exit_code == 0
    assert f"left out: {unknown}" in said.stdout
    assert held(b.folder)[RUN][0].keys() == {Scored(100, 1).id}


def test_a_run_that_a_table_names_is_known_by_weights(tmp_path: Path) -> None:
    """The name alone tells nothing; a person may."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", begun=3)
    a.score(Scored(100, 1), Scored(100, 2, made=OTHER))
    b.score(Scored(300, 1))
    said = call(b.folder, "import", str(table(a)))
    assert said.exit_code == 1
    assert f"no run here has seen the weights of {RUN}" in said.stderr
    assert f"name its run here with --into: {RUN}" in said.stderr
    assert call(b.folder, "import", str(table(a)), "--into", "lora").exit_code == 0
    assert len(held(b.folder)[RUN][0]) == 3


def without_the_last(lines: list[str]) -> list[str]:
    """Cut at the end of a line."""
    return lines[:-1]


def torn(lines: list[str]) -> list[str]:
    """Cut amid a line."""
    return [*lines[:-1], lines[-1][:40]]


def changed(key: str, value: Any) -> Callable[[list[str]], list[str]]:
    """Write another value."""
    return lambda lines: [json.dumps(json.loads(lines[0]) | {key: value}), *lines[1:]]


@pytest.mark.parametrize(
    ("harm", "code", "told"),
    [
        (without_the_last, 0, "1 of 2 images are in the table: import the log"),
        (torn, 1, "line 4 is none of clipwatch export: JSON is malformed"),
        (changed("seed", 5), 1, "p0000 0 is none of its images: import the log itself"),
        (changed("prompt_id", "other"), 1, "other 0 is none of its images"),
        (changed("step", 101), 1, "is none of its images"),
        (changed("score", "high"), 1, "line 1 is none of clipwatch export"),
        (changed("evaluation", "checkpoint-100/x"), 1, "is no evaluation of checkpoint-100"),
    ],
)
def test_a_table_that_is_not_whole_misleads_nobody(
    harm: Callable[[list[str]], list[str]], code: int, told: str, two: tuple[Machine, Machine]
) -> None:
    """What lacks or was changed is told; of a damaged one nothing is taken."""
    a, b = two
    file = table(a)
    file.write_text("\n".join(harm(file.read_text().splitlines())) + "\n")
    said = call(b.folder, "import", str(file))
    assert said.exit_code == code
    assert told in said.output
    assert len(held(b.folder)["lora-fedcba"][0]) == (1 if code == 0 else 0)


def test_answers_are_in_the_log_alone(two: tuple[Machine, Machine]) -> None:
    """A table has a number of each scorer, and says so where there was more."""
    asked = tuple(replace(it, questions=(Question("Is it?", "Yes"),)) for it in MADE.prompts)
    made = replace(MADE, prompts=asked)
    a, b = two
    for machine in two:
        machine.add(f"run/{machine.run}", 3, ProtocolDefined(made.digest, made))
    said = call(b.folder, "import", "--dry-run", str(table(a)))
    assert "answers" not in said.stdout
    a.score(Scored(100, 5, made=made))
    said = call(b.folder, "import", str(table(a)))
    assert said.exit_code == 0
    assert "left out: the answers to the prompts' questions: a table has none" in said.stdout


def test_scorers_that_came_later_are_in_the_log_alone(two: tuple[Machine, Machine]) -> None:
    """A table has their name only."""
    a, b = two
    a.add(f"run/{RUN}", 3, ScorerAdded(ScorerSpec("aesthetic", "some/head"), "d" * 16))
    id_ = Scored(100, 1).id
    scores = tuple(FurtherScore(it.id, 0, 5.0) for it in MADE.prompts)
    a.add(evaluation_stream(RUN, id_), 4, ImagesRescored(id_, "aesthetic", scores))
    a.add(
        evaluation_stream(RUN, id_), 4, EvaluationRescored(id_, "aesthetic", summarize([5.0, 5.0]))
    )
    said = call(b.folder, "import", str(table(a)))
    assert "2 results imported" in said.stdout
    assert "left out: the scores by 'aesthetic': it scored later" in said.stdout
