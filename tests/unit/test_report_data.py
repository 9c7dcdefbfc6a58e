"""What the page of `clipwatch report` holds: the numbers of `best` and `compare`, as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clipwatch.domain.state import BASE_NAME
from clipwatch.report.verdicts import ALL_PAIRS, pairs_of
from report_kit import HOSTILE, Parsed, hostile_protocol, hostile_run
from results_kit import Log, call, protocol
from score_tables import noisy


def report(log: Log, output: Path, *arguments: str) -> Parsed:
    """Make a page."""
    said = call(log.folder, "report", "-o", str(output), *arguments)
    assert said.exit_code == 0, said.output
    return Parsed(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log whose prompts are hostile, with two images each."""
    return hostile_run(tmp_path_factory.mktemp("state"), images=2, side=32)


@pytest.fixture(scope="module")
def page(log: Log) -> Parsed:
    """Return its page."""
    return report(log, log.folder / "page.html")


def test_the_best_is_told_as_best_tells_it(log: Log, page: Parsed) -> None:
    """The very sentences; and each cell of the table."""
    curve = page.json["data"]["curves"][0]
    table, _, said = call(log.folder, "best").stdout.partition("\n\n")
    assert said.splitlines() == [*curve["verdict"], *(["", *curve["notes"][-1:]])]
    rows = [[cell for cell in row if cell] for row in curve["ranked"]]
    assert [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:]] == rows[1:]
    assert curve["checkpoints"][curve["best"]]["mark"] == "best"


@pytest.mark.parametrize(("a", "b"), [(0, 300), (100, 200), (400, 100)])
def test_two_checkpoints_are_told_as_compare_tells_them(
    log: Log, page: Parsed, a: int, b: int
) -> None:
    """In both directions: interval, p, and on how many prompts which is higher."""
    curve = page.json["data"]["curves"][0]
    steps = [it["step"] for it in curve["checkpoints"]]
    verdict, counts = page.json["data"]["pairs"][f"{steps.index(a)} {steps.index(b)}"]
    lines = call(log.folder, "compare", f"@{a}", f"@{b}").stdout.splitlines()
    assert verdict in lines
    assert counts in lines


def test_the_scores_are_those_of_the_log(page: Parsed) -> None:
    """Every digit of them, the base first."""
    curve = page.json["data"]["curves"][0]
    assert [it["base"] for it in curve["checkpoints"]] == [True, False, False, False, False]
    tables = noisy(12, [-0.03, -0.01, 0.01, 0.011, -0.008], images=2)
    for checkpoint, table in zip(curve["checkpoints"], tables.values(), strict=True):
        assert checkpoint["scores"] == [list(row) for row in table.values()]


def test_seeds_keep_all_their_digits(page: Parsed) -> None:
    """A browser's numbers would not."""
    made = hostile_protocol(12, images_per_prompt=2)
    told = [seed for it in page.json["data"]["curves"][0]["prompts"] for seed in it["seeds"]]
    assert told == [str(seed) for _, _, seed in made.images()]


def test_no_prompt_is_markup(log: Log, page: Parsed) -> None:
    """Whatever a prompt holds, the page has the elements of one with tame prompts, and its text."""
    texts = [it["text"] for it in page.json["data"]["curves"][0]["prompts"]]
    assert texts[: len(HOSTILE)] == list(HOSTILE)
    tame = Log(log.folder / "tame")
    tame.start("lora-1", protocol(6))
    tame.score("lora-1", 1, noisy(6, [0.0])["0"], protocol(6))
    assert page.tags == report(tame, tame.folder / "page.html").tags
    # browsers end a script element where Python's parser does not, as at "</script x"
    assert page.text.lower().count("</script") == page.tags.count("script") == 4
    assert "<!--" not in page.text
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy
    assert "http" not in page.policy


def test_another_protocol_is_another_curve(tmp_path: Path) -> None:
    """The present one first; the earlier one says in what it differs."""
    log = Log(tmp_path / "state")
    old, new = protocol(8), protocol(8, guidance=5.0)
    log.start("one", old)
    tables = noisy(8, [0.0, 0.01, 0.02])
    log.score("one", 100, tables["0"], old)
    log.score("one", 200, tables["1"], old)
    log.change("one", new)
    log.score("one", 200, tables["2"], new)
    curves = report(log, tmp_path / "page.html").json["data"]["curves"]
    assert [[it["step"] for it in curve["checkpoints"]] for curve in curves] == [[200], [100, 200]]
    assert [curve["changed"] for curve in curves] == [[], ["guidance 3.0 and 5.0"]]


def test_a_run_of_which_only_the_base_is_scored(tmp_path: Path) -> None:
    """It has a page, without a best."""
    log = Log(tmp_path / "state")
    log.start("one", protocol(8))
    log.score("one", 0, noisy(8, [0.0])["0"], protocol(8), name=BASE_NAME)
    data = report(log, tmp_path / "page.html").json["data"]
    (curve,) = data["curves"]
    assert (curve["best"], curve["ranked"], data["pairs"]) == (None, [], {})


def test_of_many_runs_those_with_the_newest_results_are_shown(tmp_path: Path) -> None:
    """In the log's order, and it is said; named ones are shown whatever the others are."""
    log, made = Log(tmp_path / "state"), protocol(2)
    names = [f"run-{number:02}" for number in range(13)]
    for name in names:
        log.start(name, made)
    for name in [*names[3:], names[1], names[0]]:
        log.score(name, 100, noisy(2, [0.0])["0"], made)
    said = call(log.folder, "report", "-o", str(tmp_path / "page.html"))
    told = "Shown are the 10 runs with the newest results; 2 more can be named."
    assert told in said.stdout.splitlines()
    text = (tmp_path / "page.html").read_text()
    assert [name for name in names if name in text] == [*names[:2], *names[5:]]
    said = call(log.folder, "report", "run-03", "-o", str(tmp_path / "page.html"))
    assert (said.exit_code, told in said.stdout) == (0, False)


def test_nothing_scored_is_one_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "state")
    log.start("one")
    said = call(log.folder, "report", "-o", str(tmp_path / "page.html"))
    assert (said.exit_code, said.stderr.count("\n")) == (1, 1)
    assert "nothing is scored yet" in said.stderr
    assert not (tmp_path / "page.html").exists()


def test_of_many_pairs_the_usual_ones_are_compared() -> None:
    """All of few; else those with the base, the best and the neighbour."""
    assert len(pairs_of(21, 7, ALL_PAIRS // 100)) == 210
    usual = pairs_of(21, 7, ALL_PAIRS // 1632)
    assert usual == sorted({tuple(sorted(it)) for it in usual})
    assert {(0, 20), (7, 15), (3, 7), (14, 15)} <= set(usual)
    assert (3, 9) not in usual
