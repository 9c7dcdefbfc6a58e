"""Where strengths meet what names, ranks, compares and shows results, in logs that a test wrote."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from clipwatch.cli import completing
from clipwatch.cli.compare import compare
from clipwatch.cli.rank import left_out, scored_of, without_scores
from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointFound,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    ProtocolDefined,
    RunStarted,
    SettingsChanged,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.kinds import CheckpointKind, Unit
from clipwatch.domain.queue import pending
from clipwatch.domain.state import BASE_NAME, Run
from clipwatch.domain.strengths import label
from clipwatch.statistics import Summary
from report_kit import Parsed
from results_kit import Log, answer, call, protocol
from score_tables import noisy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PROMPTS = 40
MADE = protocol(PROMPTS)
STRONG, WEAK = MADE.at(1.0), MADE.at(0.6)


def whole(step: int, name: str, kind: CheckpointKind = "lora", unit: Unit = "step") -> Event:
    """Tell of a checkpoint that is whole."""
    files = (WeightFile("w.safetensors", 1, 2, 3),)
    return CheckpointCompleted(step, name, f"/out/{name}", kind, "", files, "w" * 8, unit)


def folded(*events: Event) -> Run:
    """Return the run at both strengths after these events."""
    begun: list[Event] = [
        RunStarted("/out", "", (), {}, "1"),
        *(ProtocolDefined(it.digest, it, label(it.adapter_strength)) for it in (STRONG, WEAK)),
        SettingsChanged(STRONG.digest, (), {}, "1", (WEAK.digest,)),
    ]
    return evolve({}, (("r", it, NOW) for it in (*begun, *events)))["r"]


def page(log: Log) -> dict[str, Any]:
    """Return what a page shows that is made of it."""
    output = log.folder / "page.html"
    said = call(log.folder, "report", "-o", str(output))
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = Parsed(output.read_text()).json["data"]
    return found


def two_strengths(folder: Path, *more: Event) -> Log:
    """Return a log with a base that was scored once, and two checkpoints at both strengths."""
    log = Log(folder)
    log.start_at("r", 1.0, 0.6, made=MADE)
    log.add("r", "r", whole(100, "checkpoint-100"), whole(200, "checkpoint-200"), *more)
    tables = list(noisy(PROMPTS, [-0.02, 0.0, 0.01, 0.02, 0.03]).values())
    log.score("r", 0, tables[0], STRONG, name=BASE_NAME)
    for place, (step, made) in enumerate(
        ((step, made) for step in (100, 200) for made in (STRONG, WEAK)), start=1
    ):
        log.score("r", step, tables[place], made)
    return log


def test_rank_tells_the_strength_that_has_no_score_and_ranks_the_others() -> None:
    """A file that failed at one strength is there with the other one."""
    run = folded(whole(1, "ink", unit="file"), whole(2, "sea", unit="file"))
    first, second, *_ = pending(run)
    begun = [EvaluationStarted(it.id, "sea", 2, "w" * 8, it.protocol, {}) for it in (first, second)]
    failed = EvaluationFailed(second.id, "internal", "out of luck", 3)
    done = EvaluationCompleted(first.id, {"": Summary(0.3, 0.1, 0.4, 0.05, 4)})
    run = folded(
        *(whole(n, it, unit="file") for n, it in enumerate(("ink", "sea"), start=1)),
        *begun,
        done,
        failed,
    )
    assert dict(left_out(run, {"sea"})) == {"sea at strength 0.6": "out of luck"}
    assert scored_of(run, {"sea", "ink"}) == {"sea"}
    assert scored_of(run, {"ink"}) == set()


def test_what_has_no_strength_is_ranked_without_one(tmp_path: Path) -> None:
    """A full model beside LoRAs is called by its step alone, in a table with whole rows."""
    log = two_strengths(tmp_path, whole(300, "checkpoint-300", "full"))
    log.score("r", 300, next(iter(noisy(PROMPTS, [0.2]).values())), STRONG)
    found = answer(tmp_path, "best", "r")
    assert "strength" not in found["best"]
    said = call(tmp_path, "best", "r").stdout
    assert "@300 has the highest mean of 5 results" in said
    rows = [line for line in said.splitlines() if "checkpoint-" in line]
    assert len(rows) == 5
    assert {line.index("checkpoint-") for line in rows} == {rows[0].index("checkpoint-")}
    for at in ("200:0.6", "200:1"):
        for named in ("300", "best"):
            said = call(tmp_path, "compare", at, named).stdout
            assert f"\n@300 is better than @{at} by " in said


def test_the_base_is_compared_beside_the_results_of_one_strength(tmp_path: Path) -> None:
    """Under whichever protocol it was scored: the base and two checkpoints are three."""
    two_strengths(tmp_path)
    for strength in ("1", "0.6"):
        found = answer(tmp_path, "compare", "r@0", f"r@200:{strength}")
        assert found["among_all"]["n_checkpoints"] == 3


def test_the_page_has_each_strength_with_the_base_and_what_lacks_there(tmp_path: Path) -> None:
    """Sentences as those of compare; what waits at one strength is told beside its curve alone."""
    log = two_strengths(tmp_path, whole(300, "checkpoint-300"), CheckpointFound(400, "d", "/d", ""))
    log.score("r", 300, next(iter(noisy(PROMPTS, [0.0]).values())), WEAK)
    data = page(log)
    curves = {it["strength"]: it for it in data["curves"]}
    assert list(curves) == ["strength 1", "strength 0.6"]  # the run's own first
    strong = curves["strength 1"]
    assert [it["name"] for it in strong["unscored"]] == ["checkpoint-300 at strength 1", "d"]
    assert [it["name"] for it in curves["strength 0.6"]["unscored"]] == ["d"]
    for strength, curve in (("1", strong), ("0.6", curves["strength 0.6"])):
        assert [it["base"] for it in curve["checkpoints"]][:2] == [True, False]
        assert [it["found_by"] for it in curve["checkpoints"]][:2] == ["r@0", f"r@100:{strength}"]
        said = call(tmp_path, "compare", "r@0", f"r@200:{strength}").stdout.splitlines()
        first = curve["first"]
        assert set(data["pairs"][f"{first} {first + 2}"]) <= set(said)


@pytest.fixture
def files(tmp_path: Path) -> Log:
    """Return a log with a run of two files at two strengths, and one with a training beside it."""
    log = Log(tmp_path)
    log.start_at("loras-1", 1.0, 0.6, made=MADE)
    names = ("ink.safetensors", "sea@2x.safetensors", "best.safetensors", "new.safetensors")
    log.add("loras-1", "loras-1", *(whole(n, it, unit="file") for n, it in enumerate(names, 1)))
    tables = iter(noisy(PROMPTS, [0.0, 0.2, 0.1, 0.3, 0.5, 0.4]).values())
    for strength in (1.0, 0.6):
        for step, name in enumerate(names[:3], 1):
            log.score("loras-1", step, next(tables), MADE.at(strength), name=name)
    return log


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("ink", "sea@2x", ("ink.safetensors:1", "sea@2x.safetensors:1")),
        ("ink.safetensors", "loras@sea@2x.safetensors:0.6", ("ink.safetensors:0.6", "sea@2x.saf")),
        ("ink:1", "ink:0.6", ("ink.safetensors:1", "ink.safetensors:0.6")),
        ("loras-1@ink", "3", ("ink.safetensors:1", "best.safetensors:1")),
        ("best.safetensors", "@best", ("best.safetensors:0.6", "sea@2x.safetensors:0.6")),
    ],
)
def test_a_file_is_named_as_it_is_called(
    files: Log, a: str, b: str, names: tuple[str, str]
) -> None:
    """With its ending or without, alone or behind its run; "best" stays the best."""
    found = call(files.folder, "compare", a, b)
    assert found.exit_code == 0, found.output
    (verdict,) = (it for it in found.stdout.splitlines() if " than " in it or "told" in it)
    assert all(name in verdict for name in names), verdict


def test_a_file_that_is_not_found_is_told(files: Log) -> None:
    """With those that there are, and with the runs where several have it."""
    said = call(files.folder, "compare", "inc", "ink")
    assert said.exit_code == 1
    assert "no run has a name that begins with 'inc'; known: loras-1; files: ink.saf" in said.stderr
    said = call(files.folder, "compare", "new", "ink")
    assert (said.exit_code, "new.safetensors has no scores in loras-1" in said.stderr) == (1, True)
    files.start("other-2", MADE)
    files.add("other-2", "other-2", whole(1, "ink.safetensors", unit="file"))
    files.score(
        "other-2", 1, next(iter(noisy(PROMPTS, [0.0]).values())), MADE, name="ink.safetensors"
    )
    said = call(files.folder, "compare", "ink", "sea@2x")
    assert "more than one file can be meant: name one of loras-1@1, other-2@1" in said.stderr
    assert call(files.folder, "compare", "loras@ink", "sea@2x").exit_code == 0


def test_what_has_no_score_for_one_reason_is_told_together() -> None:
    """Whatever path stands in it, with its flag; a reason of its own is told alone."""
    reason = "/o/{} cannot be applied: the base model has not 1 module (x)"
    left = {it: reason.format(it) for it in ("a.st", "b.st")} | {"c.st": "it holds a VAE"}
    left["a.st at strength -1"] = reason.format("a.st")
    together, alone = without_scores(left, Path("/o"))
    assert together == (
        "No score for 3 files (a.st, b.st, a.st at strength -1): it cannot be applied: the base "
        "model has not 1 module (x): if it was made for another one, name that with --base-model"
    )
    assert alone == "No score for c.st: it holds a VAE"


def test_shells_complete_files(files: Log) -> None:
    """By their names, beside the runs where there are several."""
    context = click.Context(compare, info_name="compare")
    context.params["state_dir"] = files.folder
    (argument, *_) = compare.params
    assert completing.scored(context, argument, "") == [
        "ink.safetensors",
        "sea@2x.safetensors",
        "best.safetensors",
    ]
    files.start("other-2", MADE)
    assert completing.scored(context, argument, "") == [
        *("loras-1", "other-2"),
        *("ink.safetensors", "sea@2x.safetensors", "best.safetensors"),
    ]
    assert completing.scored(context, argument, "i") == ["ink.safetensors"]


def test_files_are_called_by_their_names(tmp_path: Path) -> None:
    """By compare as by best, and on the page."""
    log = Log(tmp_path)
    log.start("r", MADE)
    names = ("ink.safetensors", "sea.safetensors")
    log.add("r", "r", *(whole(n, it, unit="file") for n, it in enumerate(names, start=1)))
    for step, (name, table) in enumerate(
        zip(names, noisy(PROMPTS, [0.0, 0.2]).values(), strict=True), start=1
    ):
        log.score("r", step, table, MADE, name=name)
    said = call(tmp_path, "compare", "1", "2").stdout.splitlines()
    assert any(it.startswith("sea.safetensors is better than ink.safetensors by") for it in said)
    data = page(log)
    (curve,) = data["curves"]
    assert set(data["pairs"]["0 1"]) <= set(said)
    assert curve["verdict"][0].startswith("sea.safetensors has the highest mean of 2 files")
