"""`clipwatch compare`: which of two checkpoints is better, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats

from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import BASE_NAME
from clipwatch.journal import Journal
from clipwatch.results.tables import score_table, score_tables
from clipwatch.statistics.scores import Scores, common
from results_kit import Log, answer, call, first, protocol, shifted
from score_tables import noisy

KEYS = ["a", "b", "n_prompts", "delta", "ci", "p", "wins", "ties", "losses", "detectable"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log with the run "sdxl-1", checkpoints 100 to 300 of 80 prompts, 200 the best."""
    log = Log(tmp_path / "state")
    log.start("sdxl-1")
    for step, scores in zip((100, 200, 300), noisy(80, [0, 0.02, 0.001]).values(), strict=True):
        log.score("sdxl-1", step, scores)
    return log


def means(scores: Scores) -> list[float]:
    return [fmean(row) for row in scores.values()]


def test_the_numbers_are_those_of_scipy(tmp_path: Path) -> None:
    """Exact p, ends near Student's, and counts by hand, from ten prompts of two images each."""
    one, two = noisy(10, [0, 0.012], images=2, seed=3).values()
    two = {**two, "p0004": one["p0004"]}
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, one)
    log.score("r", 2, two)
    found = answer(tmp_path, "compare", "r@1", "r@2")
    differences = np.array(means(two)) - np.array(means(one))
    differences[np.abs(differences) < 1e-9] = 0
    exact = stats.permutation_test(
        [differences], np.mean, permutation_type="samples", n_resamples=2000
    )
    student = stats.ttest_rel(means(two), means(one)).confidence_interval(0.95)
    spread = stdev(differences) / 10**0.5
    assert list(found) == [*KEYS, "verdict", "picked_of", "stopped", "among_all", "circumstances"]
    assert (found["a"], found["b"], found["n_prompts"]) == ("r@1", "r@2", 10)
    assert found["delta"] == pytest.approx(fmean(differences), abs=1e-12)
    assert found["p"] == pytest.approx(exact.pvalue, abs=1e-12)
    assert found["ci"] == pytest.approx([student.low, student.high], abs=0.15 * spread)
    assert (found["wins"], found["ties"], found["losses"]) == (
        sum(differences > 0),
        1,
        sum(differences < 0),
    )
    quantiles = stats.t.ppf(0.975, 9) + stats.t.ppf(0.8, 9)
    assert found["detectable"] == pytest.approx(quantiles * spread)
    assert found["verdict"] == "better"


def test_what_was_not_made_alike_is_told(tmp_path: Path) -> None:
    """Versions and the kind of GPU, by both commands; not the GPU's own number."""
    log = Log(tmp_path)
    log.start("r")
    one = {"torch": "2.13.0", "device": "cuda (NVIDIA A10)", "gpu": "GPU-1", "peft": "0.21.2"}
    other = one | {"torch": "2.14.1", "device": "cpu (x86_64)", "gpu": "GPU-2"}
    around: tuple[dict[str, str], ...] = (one, one | {"gpu": "GPU-3"}, other, {})
    tables = noisy(20, [0, 0.01, 0.02, 0.03]).values()
    for step, (scores, environment) in enumerate(zip(tables, around, strict=True), start=1):
        log.score("r", step, scores, environment=environment)
    unlike = ["torch: 2.13.0, 2.14.1", "device: cuda (NVIDIA A10), cpu (x86_64)"]
    assert answer(tmp_path, "compare", "r@1", "r@2")["circumstances"] == []
    assert answer(tmp_path, "compare", "r@1", "r@3")["circumstances"] == unlike
    assert answer(tmp_path, "compare", "r@3", "r@4")["circumstances"] == []
    assert answer(tmp_path, "best", "r")["circumstances"] == unlike
    note = f"Not made alike: {'; '.join(unlike)}. Small differences may come from that."
    for asked in (("compare", "r@1", "r@3"), ("best", "r")):
        assert note in call(tmp_path, *asked).output
    assert "Not made alike" not in call(tmp_path, "compare", "r@1", "r@2").output


def test_the_other_way_round_is_the_negative(tmp_path: Path) -> None:
    """In every number, for 15 pairs of 6 checkpoints, also where nothing is shown."""
    log = Log(tmp_path)
    log.start("r")
    shifts = [0, 0.001, 0.002, 0.01, -0.01, 0]
    for step, scores in enumerate(noisy(40, shifts, images=2).values()):
        log.score("r", step, scores)
    opposite = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    seen = set()
    for a, b in combinations(range(6), 2):
        there = answer(tmp_path, "compare", f"@{a}", f"@{b}")
        back = answer(tmp_path, "compare", f"@{b}", f"@{a}")
        low, high = there["ci"]
        assert back == {
            **there,
            "a": there["b"],
            "b": there["a"],
            "delta": pytest.approx(-there["delta"], abs=1e-12),
            "ci": pytest.approx([-high, -low], abs=1e-12),
            "wins": there["losses"],
            "losses": there["wins"],
            "detectable": pytest.approx(there["detectable"]),
            "verdict": opposite[there["verdict"]],
            "among_all": {
                "n_checkpoints": 6,
                "ci": pytest.approx([-there["among_all"]["ci"][1], -there["among_all"]["ci"][0]]),
                "verdict": opposite[there["among_all"]["verdict"]],
            },
        }
        seen.add(there["verdict"])
    assert seen == {"better", "worse", "inconclusive"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sdxl-1@200", "sdxl-1@200"),
        ("sd@100", "sdxl-1@100"),
        ("@0200", "sdxl-1@200"),
        ("sdxl-1", "sdxl-1@300"),
        ("s", "sdxl-1@300"),
        ("@best", "sdxl-1@200"),
        ("sdxl-1@best", "sdxl-1@200"),
    ],
)
def test_a_checkpoint_has_many_names(log: Log, written: str, meant: str) -> None:
    """With the run, its beginning or without it; the newest, or the best."""
    assert answer(log.folder, "compare", "@100", written)["b"] == meant


@pytest.mark.thorough
def test_looking_at_many_is_told_where_it_changes_the_verdict(tmp_path: Path) -> None:
    """The highest and the lowest of 20 equal ones differ, until one knows that they were picked."""
    log = Log(tmp_path)
    log.start("r")
    for step, scores in enumerate(noisy(60, [0.0] * 20).values(), start=1):
        log.score("r", step, scores)
    told = [
        (a, b)
        for a, b in combinations(range(1, 21), 2)
        if (found := answer(tmp_path, "compare", f"@{a}", f"@{b}"))["verdict"] != "inconclusive"
        and found["among_all"]["verdict"] == "inconclusive"
    ][:1]
    assert told, "no pair differs by luck"
    said = call(tmp_path, "compare", *(f"@{step}" for step in told[0])).stdout
    assert "If you found these two by looking at all 20, it is not shown" in said


def test_the_best_is_known_to_be_picked(log: Log) -> None:
    """Its own interval and that of the difference are corrected; by its step they are plain."""
    plain = answer(log.folder, "compare", "@100", "@200")
    found = answer(log.folder, "compare", "@100", "@best")
    back = answer(log.folder, "compare", "@best", "@100")
    assert (plain["picked_of"], found["picked_of"], found["b"]) == (None, 3, "sdxl-1@200")
    assert found["delta"] == pytest.approx(plain["delta"])
    assert found["ci"] != plain["ci"]
    assert back["ci"] == pytest.approx([-found["ci"][1], -found["ci"][0]])
    said = call(log.folder, "compare", "@100", "@best").stdout
    assert "The best was picked from 3: interval and p are corrected for that." in said


def test_a_run_without_a_score_is_not_meant(log: Log) -> None:
    """Of a folder that was mistyped once; by its name it is still asked for."""
    log.start("mistyped")
    assert answer(log.folder, "compare", "100", "200")["a"] == "sdxl-1@100"
    assert answer(log.folder, "best")["run"] == "sdxl-1"
    assert "mistyped has no scores yet" in call(log.folder, "compare", "mistyped@1", "@1").stderr


def test_the_whole_name_of_a_run_is_never_ambiguous(log: Log) -> None:
    """Though another begins with it; a beginning of both is refused."""
    log.start("sdxl-12")
    log.score("sdxl-12", 50, noisy(80, [0])["0"])
    assert answer(log.folder, "compare", "sdxl-1", "sdxl-12")["a"] == "sdxl-1@300"
    said = call(log.folder, "compare", "sdxl", "sdxl-12")
    assert (said.exit_code, said.stderr) == (
        1,
        "Error: more than one run can be meant: name one of sdxl-1, sdxl-12\n",
    )


def test_bare_steps_are_steps(log: Log) -> None:
    """Unless a run's name begins so."""
    assert answer(log.folder, "compare", "100", "best") == answer(
        log.folder, "compare", "@100", "@best"
    )
    log.start("100-steps")
    log.score("100-steps", 50, noisy(80, [0])["0"])
    assert answer(log.folder, "compare", "100", "100-steps@50")["a"] == "100-steps@50"


@pytest.mark.parametrize(
    ("written", "code", "told"),
    [
        ("@150", 1, "sdxl-1 has no scores of step 150; scored so far: 100, 200, 300"),
        ("flux@100", 1, "no run has a name that begins with 'flux'; known: sdxl-1, new"),
        ("new", 1, "new has no scores yet: clipwatch status shows why"),
        ("new@best", 1, "new has no scores yet under its present settings"),
        ("@", 2, "'@' names no checkpoint: write RUN@STEP, @STEP or RUN"),
        ("", 2, "'' names no checkpoint"),
        ("sdxl-1@-5", 2, "'sdxl-1@-5' names no checkpoint"),
        ("sdxl-1@last", 2, "with a number or 'best' for STEP"),
        ("sdxl-1@" + "9" * 5000, 2, "names no checkpoint"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    log: Log, written: str, code: int, told: str
) -> None:
    """Which names what is known; 2 is for what can be no name at all."""
    if not written.startswith("@1"):
        log.start("new")
    said = call(log.folder, "compare", written, "sdxl-1@100")
    assert said.exit_code == code
    assert said.stdout == ""
    assert said.stderr.startswith("Error: ")
    assert said.stderr.count("\n") == 1
    assert told in said.stderr


def test_many_steps_are_not_all_listed(tmp_path: Path) -> None:
    """A line stays a line: the first ones and the last are named."""
    log = Log(tmp_path)
    log.start("r")
    for step in range(1, 41):
        log.score("r", step, {"p0000": [0.3]})
    told = call(tmp_path, "compare", "@1", "@99").stderr
    assert told.endswith("scored so far: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..., 40\n")


def test_without_a_log_it_says_where_it_looked(tmp_path: Path) -> None:
    """And makes none."""
    said = call(tmp_path / "none", "compare", "@1", "@2")
    assert said.exit_code == 1
    assert f"there is no log in {tmp_path / 'none'}" in said.stderr
    assert not (tmp_path / "none").exists()


def test_other_protocols_are_refused_field_by_field(log: Log) -> None:
    """With both values; of prompts, how many differ."""
    prompts = (*protocol(999).prompts, Prompt("new", "something new"), Prompt("n2", "more"))
    other = replace(protocol(seed=2, scheduler="ddim"), prompts=prompts)
    log.start("other", other)
    log.score("other", 100, noisy(80, [0])["0"], other)
    said = call(log.folder, "compare", "sdxl-1@100", "other@100")
    assert said.exit_code == 1
    assert said.stderr == (
        "Error: sdxl-1@100 and other@100 were not scored alike, so that their scores cannot be "
        "compared: prompts (1 of 1000 and 2 of 1001 are not in the other); seed 1 and 2; "
        'scheduler "" and "ddim"\n'
    )


def test_the_present_protocol_is_preferred_else_the_newest_shared(tmp_path: Path) -> None:
    """Whatever was scored last: a run went back to its first protocol, then changed to a third."""
    old, new, last = protocol(), protocol(seed=2), protocol(seed=3)
    scores = list(noisy(30, [0, 0, 0.05]).values())
    log = Log(tmp_path)
    log.start("r", old)
    log.score("r", 1, scores[0], old)
    log.score("r", 2, scores[1], old)
    log.change("r", new)
    log.score("r", 1, scores[0], new)
    log.score("r", 2, scores[2], new)
    assert answer(tmp_path, "compare", "@1", "@2")["verdict"] == "better"
    log.change("r", old)
    assert answer(tmp_path, "compare", "@1", "@2")["verdict"] == "inconclusive"
    assert "These are scores" not in call(tmp_path, "compare", "@1", "@2").stdout
    log.change("r", last)
    assert answer(tmp_path, "compare", "@1", "@2")["verdict"] == "better"
    assert (
        "These are scores from before the settings or model files changed (seed 2 and 3): "
        "not yet scored anew are @1 and @2, or one of them.\n"
    ) in call(tmp_path, "compare", "@1", "@2").stdout


def test_of_a_step_scored_again_the_latest_counts(log: Log) -> None:
    """Other weights under the same name are another evaluation."""
    worse = shifted(noisy(80, [0, 0.02, 0.001])["0"], -0.1)
    log.score("sdxl-1", 200, worse, weights="v")
    found = answer(log.folder, "compare", "@100", "@200")
    assert found["delta"] == pytest.approx(-0.1)
    assert found["verdict"] == "worse"


def test_only_prompts_that_both_have_count(log: Log) -> None:
    """One evaluation stopped early: figures and the means shown are those of the shared prompts."""
    scores = noisy(80, [0, 0.02, 0.001])
    early = first(shifted(scores["0"], 0.01), 30)
    log.score("sdxl-1", 400, early)
    assert answer(log.folder, "compare", "@100", "@400")["n_prompts"] == 30
    told = call(log.folder, "compare", "@100", "@400").stdout
    assert "Only prompts that both have count; a has 80, b 30." in told
    assert f"{fmean(means(first(scores['0'], 30))):.4f}" in told
    log.score("sdxl-1", 500, {"p0999": [0.3]})
    refused = call(log.folder, "compare", "@100", "@500")
    assert refused.stderr == "Error: sdxl-1@100 and sdxl-1@500 share no scored prompt\n"


def test_images_are_paired_by_their_index() -> None:
    """Whatever the order in the log; where one has fewer, the first ones count; told last holds."""
    told = [
        ImageScore("p", 1, 0, {"": 0.2}),
        ImageScore("p", 0, 0, {"": 0.1}),
        ImageScore("q", 0, 0, {"": 0.5}),
    ]
    table = score_table([*told, ImageScore("p", 1, 0, {"": 0.3})])
    assert table == {"p": [0.1, 0.3], "q": [0.5]}
    assert score_tables([*told, ImageScore("p", 1, 0, {"": 0.3, "s": 0.7})]) == {
        "": table,
        "s": {"p": [0.7]},
    }
    assert common([table, {"p": [0.9], "r": [0.9]}]) == [{"p": [0.1]}, {"p": [0.9]}]
    assert common([table, {"r": [0.9]}]) == [{}, {}]


def test_a_further_scorer_has_its_own_verdict(tmp_path: Path) -> None:
    """Also on which one is the best; an unknown one is refused with those that there are."""
    low, high = noisy(40, [0, 0.03]).values()
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, low, others={"siglip": high})
    log.score("r", 2, high, others={"siglip": low})
    assert answer(tmp_path, "compare", "@1", "@2")["verdict"] == "better"
    assert answer(tmp_path, "compare", "@1", "@2", "--scorer", "siglip")["verdict"] == "worse"
    assert answer(tmp_path, "compare", "@1", "@best")["b"] == "r@2"
    assert answer(tmp_path, "compare", "@1", "@best", "--scorer", "siglip")["b"] == "r@1"
    said = call(tmp_path, "compare", "@1", "@2", "--scorer", "clip2")
    assert (said.exit_code, said.stderr) == (
        1,
        "Error: r@1 has no scores of 'clip2'; further scorers: siglip\n",
    )


def test_step_0_is_the_base_model(log: Log) -> None:
    """Whose name is that of any checkpoint."""
    log.score("sdxl-1", 0, shifted(noisy(80, [0])["0"], -0.1), name=BASE_NAME)
    assert answer(log.folder, "compare", "@0", "@100")["verdict"] == "better"
    assert BASE_NAME in call(log.folder, "compare", "@0", "@100").stdout


def test_a_person_reads_a_table_a_sentence_and_prompts(tmp_path: Path) -> None:
    """Ten prompts that gain 0.01 to 0.10 in order: all figures are known beforehand."""
    one = {f"p{n:04}": [0.2 + n / 100] for n in range(10)}
    two = {f"p{n:04}": [0.2 + n / 100 + (n + 1) / 100] for n in range(10)}
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, one)
    log.score("r", 2, two)
    found = answer(tmp_path, "compare", "@1", "@2")
    low, high = found["ci"]
    lines = call(tmp_path, "compare", "@1", "@2").stdout.splitlines()
    assert lines[0].split() == ["mean", "95", "%", "interval", "prompts", "checkpoint"]
    assert lines[1].split()[:3] == ["a", "@1", "0.2450"]
    assert lines[1].split()[-2:] == ["10", "checkpoint-1"]
    assert lines[2].split()[:3] == ["b", "@2", "0.3000"]
    assert lines[3].split() == ["b", "-", "a", "0.0550", f"{low:.4f}", "to", f"{high:.4f}", "10"]
    assert lines[5].startswith("p 0.0020; b is higher on 10 prompts, equal on 0, lower on 0; detec")
    expected = f"@2 is better than @1 by 0.0550 (95 % interval {low:.4f} to {high:.4f})."
    assert lines[7] == expected
    assert lines[9:] == [
        "Gained most:",
        "  +0.1000  0.2900 to 0.3900  picture number 9",
        "  +0.0900  0.2800 to 0.3700  picture number 8",
        "  +0.0800  0.2700 to 0.3500  picture number 7",
        "  +0.0700  0.2600 to 0.3300  picture number 6",
        "  +0.0600  0.2500 to 0.3100  picture number 5",
    ]
    back = call(tmp_path, "compare", "@2", "@1").stdout.splitlines()
    assert back[7] == expected.replace("@2 is better than @1", "@1 is worse than @2")
    assert back[9] == "Lost most:"
    assert back[10].split()[0] == "-0.1000"


def test_no_difference_shown_names_what_would_have_been_seen(log: Log) -> None:
    """And the same weights twice are the same on every prompt; two runs are named."""
    found = answer(log.folder, "compare", "@100", "@300")
    told = call(log.folder, "compare", "@100", "@300").stdout
    least = f"one of {found['detectable']:.4f} or more would probably have been seen."
    assert f"No difference between @100 and @300 is shown: {least}" in told
    same = call(log.folder, "compare", "@100", "@100").stdout
    assert "Every prompt has the same score in @100 and @100." in same
    assert "most:" not in same
    log.start("other")
    log.score("other", 7, noisy(80, [0])["0"])
    assert "better than other@7 by" in call(log.folder, "compare", "other", "sdxl-1@200").stdout


def test_few_prompts_show_nothing(tmp_path: Path) -> None:
    """However far apart they are: five are told to be too few, six are enough."""
    log = Log(tmp_path)
    log.start("r")
    for count in (5, 6):
        one = {f"p{n:04}": [0.1 + n / 1000] for n in range(count)}
        log.score("r", count, one)
        log.score("r", 10 * count, shifted(one, 0.2))
    assert answer(tmp_path, "compare", "@5", "@50")["verdict"] == "inconclusive"
    told = call(tmp_path, "compare", "@5", "@50").stdout
    assert "Nothing can be shown with 5 prompts: at least 6 are needed" in told
    assert "detectable" not in told
    assert "-2.0" not in told
    assert answer(tmp_path, "compare", "@6", "@60")["verdict"] == "better"


def test_a_small_sure_difference_is_not_told_as_0(tmp_path: Path) -> None:
    """As many decimals are shown as the interval's width has a use for."""
    one = noisy(50, [0])["0"]
    noise = np.random.default_rng(0).normal(3e-5, 1e-5, 50).tolist()
    two = {id_: [row[0] + more] for (id_, row), more in zip(one.items(), noise, strict=True)}
    log = Log(tmp_path)
    log.start("r")
    log.score("r", 1, one)
    log.score("r", 2, two)
    delta = answer(tmp_path, "compare", "@1", "@2")["delta"]
    assert f"better than @1 by {delta:.7f} (" in call(tmp_path, "compare", "@1", "@2").stdout


def test_each_stream_is_read_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where "best" looks at all checkpoints before two of them are compared."""
    read: list[str | None] = []
    whole = Journal.read

    def counted(journal: Journal, after: int = 0, *, stream: str | None = None) -> object:
        read.append(stream)
        return whole(journal, after, stream=stream)

    monkeypatch.setattr(Journal, "read", counted)
    answer(log.folder, "compare", "@100", "@best")
    assert len(read) == len(set(read)) == 3


NO_TORCH = """
import sys
from clipwatch.cli import main
try:
    main(sys.argv[2:])
finally:
    never = set(sys.argv[1].split(",")) & set(sys.modules)
    assert not never, never
"""


@pytest.mark.parametrize(
    ("pair", "flags", "code"),
    [
        (("@100", "@200"), ["--fail-if-worse"], 0),
        (("@200", "@100"), ["--fail-if-worse"], 1),
        (("@200", "@100"), [], 0),
        (("@100", "@300"), ["--fail-if-worse"], 0),
    ],
)
def test_a_script_can_go_by_the_exit_code(
    log: Log, pair: tuple[str, str], flags: list[str], code: int
) -> None:
    """Of a real process, which prints its JSON all the same and never imports torch."""
    arguments = ["compare", *pair, *flags, "--json", "--state-dir", str(log.folder)]
    command = [sys.executable, "-c", NO_TORCH, "torch,transformers,diffusers", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert (json.loads(ended.stdout)["verdict"] == "worse") == (pair == ("@200", "@100"))


@pytest.mark.parametrize("name", ["compare", "best"])
def test_help_needs_no_numpy(name: str) -> None:
    """So it stays fast."""
    command = [sys.executable, "-c", NO_TORCH, "numpy,scipy,torch", name, "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--scorer NAME" in ended.stdout
