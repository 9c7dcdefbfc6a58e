"""`clipwatch best`: the best checkpoint of a run, and those that cannot be told from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from scipy import stats

from clipwatch.domain.state import BASE_NAME
from clipwatch.journal import Journal
from clipwatch.statistics.best import best_of
from clipwatch.statistics.scale import COSINE
from results_kit import Log, answer, call, first, protocol, shifted
from score_tables import noisy

SCORES = dict(
    zip((10, 20, 30, 40, 50), noisy(60, [-0.04, 0, 0.001, 0, -0.03]).values(), strict=True)
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log with the run "sdxl-1": 20, 30 and 40 are alike, 10 and 50 are worse."""
    log = Log(tmp_path / "state")
    log.start("sdxl-1")
    for step, scores in SCORES.items():
        log.score("sdxl-1", step, scores)
    return log


def steps(found: list[dict[str, object]]) -> list[object]:
    return [it["step"] for it in found]


def test_json_names_the_best_and_its_ties(log: Log) -> None:
    """As a real process prints it; the mean by hand, interval and ties are those of `best_of`."""
    command = [sys.executable, "-m", "clipwatch", "best", "--json", "--state-dir", str(log.folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    means = {step: [row[0] for row in scores.values()] for step, scores in SCORES.items()}
    highest = max(means, key=lambda step: fmean(means[step]))
    student = stats.ttest_1samp(means[highest], 0).confidence_interval(0.95)
    ranked = best_of({str(step): scores for step, scores in SCORES.items()}, COSINE)
    tied, (_, low, high) = ranked.tied, ranked.mean
    assert low < student.low < high < student.high  # luck was picked: the mean lies too high
    assert [*tied, str(highest)] != [str(highest)]
    assert {*map(int, tied), highest} == {20, 30, 40}
    assert found == {
        "run": "sdxl-1",
        "unit": "step",
        "best": {
            "step": highest,
            "checkpoint": f"checkpoint-{highest}",
            "mean": pytest.approx(fmean(means[highest])),
            "ci": pytest.approx([low, high]),
        },
        "tied": [{"step": int(step), "checkpoint": f"checkpoint-{step}"} for step in tied],
        "may_be_best": [{"step": it, "checkpoint": f"checkpoint-{it}"} for it in (20, 30, 40)],
        "n_prompts": 60,
        "n_checkpoints": 5,
        "circumstances": [],
    }


def test_a_person_reads_a_table_and_sentences(log: Log) -> None:
    """The steps in order, each with its difference to the best; the earliest of the ties."""
    highest = answer(log.folder, "best", "sdxl")["best"]["step"]
    others = [step for step in (20, 30, 40) if step != highest]
    *table, empty, one, two, three = call(log.folder, "best", "sdxl").stdout.splitlines()
    assert empty == ""
    marks = {10: [], 20: ["tied"], 30: ["tied"], 40: ["tied"], 50: [], highest: ["best"]}
    for (step, scores), line in zip(SCORES.items(), table[1:], strict=True):
        cells = line.split()
        assert cells[:2] == [str(step), f"{fmean(row[0] for row in scores.values()):.4f}"]
        numbers = 5 if step == highest else 9
        assert cells[numbers:] == [*marks[step], f"checkpoint-{step}"]
    differences = best_of(
        {str(step): scores for step, scores in SCORES.items()}, COSINE
    ).differences
    delta, low, high = differences["10"]
    assert table[1].split()[5:9] == [f"{delta:.4f}", f"{low:.4f}", "to", f"{high:.4f}"]
    assert one.startswith(
        f"@{highest} has the highest mean of 5 checkpoints on 60 prompts that all have: 0."
    )
    assert two == (
        "After correction for having looked at all 5, 2 cannot be told from it: "
        f"@{others[0]}, @{others[1]}."
    )
    assert three == "Many people take the earliest of these, here @20: a habit, not a rule."


@pytest.mark.parametrize(
    ("top", "tied", "may_be", "told"),
    [
        (0.010, [0, 3, 4], [4, 5], "the best is among @4, @5."),
        (0.012, [4], [5], "no other is better."),
    ],
)
def test_to_say_which_may_be_the_best_takes_less(
    tmp_path: Path, top: float, tied: list[int], may_be: list[int], told: str
) -> None:
    """Some that cannot be told from it are no better all the same: table, sentence and JSON."""
    log = Log(tmp_path)
    log.start("r")
    for step, scores in noisy(60, [0.0, 0.001, 0.002, 0.003, 0.004, top]).items():
        log.score("r", int(step), scores)
    found = answer(tmp_path, "best")
    assert (steps(found["tied"]), steps(found["may_be_best"])) == (tied, may_be)
    table = call(tmp_path, "best").stdout.splitlines()
    marked = {int(line.split()[0]) for line in table[1:7] if "not better" in line}
    assert marked == set(tied) - set(may_be)
    assert table[-1] == f"With 95 % certainty {told}"


def test_without_ties_it_is_told_so(tmp_path: Path) -> None:
    """As it is of a checkpoint that is the only one."""
    scores = noisy(60, [0])["0"]
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, scores)
    assert answer(tmp_path, "best")["tied"] == []
    assert call(tmp_path, "best").stdout.endswith("It is the only one with scores.\n")
    log.score("r", 2, noisy(60, [0.05], seed=1)["0"])
    said = call(tmp_path, "best").stdout
    assert said.endswith("After correction for having looked at all 2, every other one is lower.\n")
    assert "habit" not in said


def test_few_prompts_tell_nothing_apart(tmp_path: Path) -> None:
    """All others are tied, and no interval of -2 to 2 is shown; one prompt has none of its own."""
    log = Log(tmp_path)
    log.start("r")
    one = {f"p{n:04}": [0.1 + n / 1000] for n in range(5)}
    log.score("r", 1, one)
    log.score("r", 2, shifted(one, 0.3))
    assert steps(answer(tmp_path, "best")["tied"]) == [1]
    said = call(tmp_path, "best").stdout
    assert "With 5 prompts none can be told from another: at least 6 are needed" in said
    assert "not known" in said
    assert "2.0000" not in said
    log.score("r", 3, first(one, 1))
    found = answer(tmp_path, "best")
    assert (found["n_prompts"], found["best"]["ci"]) == (1, None)
    assert "(95 % interval" not in call(tmp_path, "best").stdout


def test_only_prompts_that_all_have_count(log: Log) -> None:
    """One stopped early: the means are those of its prompts, and so is the order."""
    log.score("sdxl-1", 60, first(shifted(SCORES[10], 0.2), 30))
    found = answer(log.folder, "best")
    assert (found["n_prompts"], found["n_checkpoints"], found["best"]["step"]) == (30, 6, 60)
    part = fmean(row[0] for row in first(SCORES[10], 30).values())
    assert call(log.folder, "best").stdout.splitlines()[1].split()[1] == f"{part:.4f}"
    log.score("sdxl-1", 70, {"p0999": [0.3]})
    said = call(log.folder, "best")
    assert said.exit_code == 1
    assert said.stderr == "Error: the checkpoints of sdxl-1 share no scored prompt\n"


def test_base_model_old_weights_and_other_protocols_are_left_out(log: Log) -> None:
    """Each would be the best by far."""
    high = shifted(SCORES[10], 0.5)
    log.score("sdxl-1", 0, high, name=BASE_NAME)
    log.score("sdxl-1", 20, high, weights="v")
    assert answer(log.folder, "best")["best"]["step"] == 20
    log.score("sdxl-1", 20, SCORES[20], weights="u")
    log.start("other", protocol(seed=9))
    log.score("other", 1, high, protocol(seed=9))
    found = answer(log.folder, "best", "sdxl-1")
    assert found["n_checkpoints"] == 5
    assert found["best"]["mean"] < 0.4
    log.change("sdxl-1", protocol(seed=9))
    said = call(log.folder, "best", "sdxl-1")
    assert said.exit_code == 1
    assert said.stderr.startswith("Error: sdxl-1 has no scores yet under its present settings")
    log.score("sdxl-1", 30, SCORES[30], protocol(seed=9))
    assert answer(log.folder, "best", "sdxl-1")["n_checkpoints"] == 1


def test_a_further_scorer_has_its_own_best(tmp_path: Path) -> None:
    """A checkpoint of which it has no scores is named."""
    low, high = noisy(40, [0, 0.05]).values()
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, low, others={"siglip": high})
    log.score("r", 2, high, others={"siglip": low})
    assert answer(tmp_path, "best")["best"]["step"] == 2
    assert answer(tmp_path, "best", "--scorer", "siglip")["best"]["step"] == 1
    log.score("r", 3, high)
    said = call(tmp_path, "best", "--scorer", "siglip")
    assert said.exit_code == 1
    assert said.stderr == "Error: r@3 has no scores of 'siglip'; further scorers: none\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "more than one run can be meant: name one of sdxl-1, flux-2"),
        (["sd3"], "no run has a name that begins with 'sd3'; known: sdxl-1, flux-2"),
        (["flux"], "flux-2 has no scores yet under its present settings"),
    ],
)
def test_what_is_missing_is_told_in_one_line(log: Log, arguments: list[str], told: str) -> None:
    """With what is known, and exit code 1."""
    log.start("flux-2")
    if not arguments:
        log.score("flux-2", 1, noisy(80, [0])["0"])
    said = call(log.folder, "best", *arguments)
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (1, "", 1)
    assert told in said.stderr


def test_each_of_many_streams_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 30 checkpoints with 100 prompts; so time grows with what there is to read, no more."""
    log = Log(tmp_path)
    log.start("r")
    for step, scores in enumerate(noisy(100, [0] * 30).values()):
        log.score("r", step, scores)
    read: list[str | None] = []
    whole = Journal.read

    def counted(journal: Journal, after: int = 0, *, stream: str | None = None) -> object:
        read.append(stream)
        return whole(journal, after, stream=stream)

    monkeypatch.setattr(Journal, "read", counted)
    found = answer(tmp_path, "best")
    assert (found["n_checkpoints"], len(read), len(set(read))) == (30, 30, 30)


def test_of_many_ties_a_sentence_names_some(tmp_path: Path) -> None:
    """The table marks them all."""
    log = Log(tmp_path)
    log.start("r")
    scores = noisy(10, [0])["0"]
    for step in range(1, 21):
        log.score("r", step, scores)
    said = call(tmp_path, "best").stdout
    told = "@2, @3, @4, @5, @6, @7, @8, @9, @10, @11, @12, ..., @20."
    assert f"all 20, 19 cannot be told from it: {told}" in said
    assert said.count("  tied  ") == 19
