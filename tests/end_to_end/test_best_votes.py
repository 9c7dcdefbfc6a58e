"""`clipwatch best --votes`: whom people prefer, beside the scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.domain.kinds import Choice, Question
from clipwatch.domain.names import votes_stream
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.domain.votes import Voted
from report_kit import Parsed
from results_kit import Log, answer, call, protocol
from score_tables import noisy

MADE = protocol(40)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log of three checkpoints, each surely higher than the one before."""
    log = Log(tmp_path)
    log.start("lora", MADE)
    for step, scores in zip((100, 200, 300), noisy(40, [0, 0.05, 0.1]).values(), strict=True):
        log.score("lora", step, scores, MADE)
    return log


def vote(log: Log, better: int, worse: int, choice: Choice, question: Question, times: int) -> None:
    """Vote so often, the better one on the left."""
    left, right = (
        evaluation_id(
            Checkpoint(it, f"checkpoint-{it}", "/c", "whole", digest="w" * 8), MADE.digest
        )
        for it in (better, worse)
    )
    events = [
        Voted(
            f"{question} {better} {worse} {choice} {n}",
            question,
            f"p{n:04}",
            0,
            left,
            right,
            choice,
        )
        for n in range(times)
    ]
    log.add("lora", votes_stream("lora"), *events)


def test_before_a_vote_it_says_how_to_vote(log: Log) -> None:
    """The scores stand above it as ever."""
    said = call(log.folder, "best", "--votes").stdout
    assert said.startswith(call(log.folder, "best").stdout)
    assert said.endswith("No votes so far: clipwatch serve asks for them.\n")
    assert answer(log.folder, "best", "--votes")["votes"] == []
    assert "votes" not in answer(log.folder, "best")


def test_two_are_told_with_their_share(log: Log) -> None:
    """And with those who saw no difference, who count for neither."""
    vote(log, 200, 300, "left", "better", 16)
    vote(log, 200, 300, "right", "better", 4)
    vote(log, 200, 300, "neither", "better", 7)
    said = call(log.folder, "best", "--votes").stdout
    assert "Which is better? 27 votes, 7 of them without a difference." in said
    assert "@200 is preferred over @300 in 80 % of 20 votes (95 % interval 58 % to 92 %)." in said
    [voted] = answer(log.folder, "best", "--votes")["votes"]
    assert (voted["question"], voted["n"], voted["neither"]) == ("better", 27, 7)
    assert voted["best"] == {"step": 200, "checkpoint": "checkpoint-200"}
    ranked = {it["step"]: it for it in voted["ranked"]}
    assert (ranked[300]["chosen"], ranked[300]["of"]) == (4, 20)
    assert ranked[300]["over_best"] == pytest.approx(0.2)
    assert ranked[100]["over_best"] is None
    assert [it["tied"] for it in voted["ranked"]] == [False, False, False]


def test_where_votes_and_scores_contradict_each_other_is_said(log: Log) -> None:
    """Beyond the intervals of both: elsewhere nothing is."""
    vote(log, 100, 200, "left", "follows", 30)
    vote(log, 100, 200, "right", "follows", 2)
    vote(log, 300, 200, "left", "follows", 30)
    vote(log, 300, 200, "right", "follows", 2)
    vote(log, 300, 100, "left", "follows", 10)
    vote(log, 300, 100, "right", "follows", 9)
    said = call(log.folder, "best", "--votes").stdout
    opposed = [line for line in said.splitlines() if "the opposite" in line]
    assert opposed == [
        (
            "Voters prefer @100 to @200, scores say the opposite, both beyond their intervals: "
            "look at their images."
        )
    ]
    [voted] = answer(log.folder, "best", "--votes")["votes"]
    assert voted["opposed"] == [
        {
            "voters_prefer": {"step": 100, "checkpoint": "checkpoint-100"},
            "scores_prefer": {"step": 200, "checkpoint": "checkpoint-200"},
        }
    ]
    assert voted["best"]["step"] == 300
    assert {it["step"]: it["tied"] for it in voted["ranked"]} == {100: True, 200: False, 300: False}
    assert "1 cannot be told from it: @100." in said


def test_where_they_agree_nothing_is_made_of_it(log: Log) -> None:
    """Each question by itself."""
    vote(log, 300, 200, "left", "follows", 30)
    vote(log, 200, 300, "neither", "better", 2)
    said = call(log.folder, "best", "--votes").stdout
    assert "Nowhere do votes and scores contradict each other beyond their intervals." in said
    assert "Which is better? 2 votes, 2 of them without a difference." in said
    assert "None of them prefers any." in said


def test_the_log_tells_of_votes(log: Log) -> None:
    """In plain words, and it is whole with them."""
    vote(log, 300, 200, "right", "follows", 1)
    told = call(log.folder, "log").stdout.splitlines()[-1]
    assert told.endswith(
        "a vote, asked which follows its prompt better: checkpoint-200 over checkpoint-300"
    )
    assert "0 faults" in call(log.folder, "log", "--verify").stdout


def test_the_page_says_the_same(log: Log) -> None:
    """Word for word, and by the same table."""
    vote(log, 300, 200, "left", "follows", 9)
    vote(log, 100, 300, "left", "follows", 9)
    said = call(log.folder, "best", "--votes").stdout.splitlines()
    file = log.folder / "page.html"
    assert call(log.folder, "report", "-o", str(file)).exit_code == 0
    [voted] = Parsed(file.read_text(encoding="utf-8")).json["data"]["curves"][0]["votes"]
    assert len(voted["sentences"]) == 3
    assert all(it in said for it in voted["sentences"])
    tables = [line.split() for line in said]
    assert all(" ".join(row).split() in tables for row in voted["rows"])
