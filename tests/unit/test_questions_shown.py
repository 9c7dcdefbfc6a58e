"""Where answers to the prompts' questions are shown: trackers, the command, the page."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clipwatch.domain.events import CheckpointCompleted
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.questions import Question
from clipwatch.domain.state import BASE_NAME
from clipwatch.judging.questions import answered
from clipwatch.testing.series import make_protocol, make_series, with_everything
from clipwatch_adapters.shared.numbers import Names, scalars
from report_kit import Parsed
from results_kit import Log, answer, call, protocol

ASKED = (
    Question("How many cats are there?", "two", "count"),
    Question("Are the cats <i>red</i>?", "Yes", "attribute"),
)
PLAIN = protocol(
    prompts=8, scorers=(ScorerSpec("", "clip"), ScorerSpec("q", "m", kind="questions"))
)
MADE = replace(PLAIN, prompts=tuple(replace(it, questions=ASKED) for it in PLAIN.prompts))


def answers(step: int, prompt: str) -> tuple[float, float]:
    """Return what is answered: the count is forgotten as the training goes on."""
    place = int(prompt[1:])
    return round(0.9 - step / 1000 - place / 100, 4), 0.5 + step / 2000


def asked_at(step: int, prompt: str, _: int) -> dict[str, tuple[float, ...]]:
    """Return them by scorer."""
    return {"q": answers(step, prompt)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log with a base and two checkpoints, and one image of each prompt."""
    found = Log(tmp_path_factory.mktemp("state"))
    found.start("cats", MADE)
    for step in (0, 100, 200):
        told = {it.id: answers(step, it.id) for it in MADE.prompts}
        found.score(
            *(
                "cats",
                step,
                {it: [0.2 + step / 10000 + n / 100] for n, it in enumerate(told)},
                MADE,
            ),
            name="" if step else BASE_NAME,
            others={"q": {it: [sum(its) / 2] for it, its in told.items()}},
            answers=partial(asked_at, step),
        )
    return found


def test_trackers_show_skills(tmp_path: Path) -> None:
    """By words that are safe in tags, each with its mean; and prompts as a whole."""
    prompts = tuple(
        replace(it, questions=(Question("?", "Yes", "a/b"), Question("?", "Yes", "a b")))
        for it in make_protocol().prompts
    )
    series = with_everything(
        make_series(tmp_path, [100], protocol=replace(make_protocol(), prompts=prompts))
    )
    told = {
        it.prompt_id: replace(it, answers={"siglip": (0.25, 0.5)})
        for it in series.scores(series.results[0].evaluation)
    }
    found = replace(series.results[0], answered=answered([*told.values()], prompts))
    tags = scalars(Names.of(series), found)
    assert tags["scorer_siglip_skill/a_b"] == 0.25
    assert tags["scorer_siglip_skill/a_b-2"] == 0.5
    assert tags["scorer_siglip_answers/geometric"] == pytest.approx(0.125**0.5)
    assert not [it for it in scalars(Names.of(series), series.results[0]) if "_skill/" in it]


def test_the_command_names_what_is_ignored(log: Log) -> None:
    """The best checkpoint's skills beside the base's, the weakest first; then one by one."""
    said = call(log.folder, "ignored")
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert lines[0] == "cats@200, checkpoint-200, by q"
    assert lines[2].split() == [
        "skill",
        "right",
        "95",
        "%",
        "interval",
        "base",
        "change",
        "answers",
    ]
    assert [it.split()[0] for it in lines[3:6]] == ["attribute", "count", "whole"]
    assert lines[4].split()[1:] == ["0.67", "0.64", "to", "0.69", "0.86", "-0.20", "8"]
    least = lines[lines.index("Met least:") + 2 :]
    assert least[1].startswith(" 0.60  0.50  Are the cats <i>red</i>?  Yes     picture number 0")
    assert len(least) == 1 + 16
    assert len(call(log.folder, "ignored", "--most", "3").stdout.splitlines()) == len(lines) - 13


def test_the_command_as_json(log: Log) -> None:
    """All of them, with the base's."""
    found = answer(log.folder, "ignored", "@100")
    assert (found["run"], found["step"], found["scorer"]) == ("cats", 100, "q")
    assert found["answered"]["skills"]["count"]["mean"] == pytest.approx(0.765)
    assert found["base"]["skills"]["count"]["mean"] == pytest.approx(0.865)
    values = [it["probability"] for it in found["questions"]]
    assert values == sorted(values)
    assert len(values) == 16
    first = found["questions"][0]
    assert (first["question"], first["answer"], first["skill"]) == (
        "Are the cats <i>red</i>?",
        "Yes",
        "attribute",
    )
    assert (first["probability"], first["base"]) == (0.55, 0.5)


def test_the_base_has_no_strength(tmp_path: Path) -> None:
    """It was asked about under one of several, and stands beside those at any of them."""
    log = Log(tmp_path)
    log.start_at("cats", 0.6, 1.0, made=MADE)
    whole = CheckpointCompleted(100, "checkpoint-100", "/c", "lora", "", (), "w" * 8)
    log.add("cats", "cats", whole)
    for step, strength in ((0, 0.6), (100, 0.6), (100, 1.0)):
        log.score(
            *("cats", step, {it.id: [0.2 + strength / 10] for it in MADE.prompts}),
            MADE.at(strength),
            name="" if step else BASE_NAME,
            others={"q": {it.id: [sum(answers(step, it.id)) / 2] for it in MADE.prompts}},
            answers=partial(asked_at, step),
        )
    found = answer(log.folder, "ignored", "@100:1", "--json")
    assert found["base"]["skills"]["count"]["mean"] == pytest.approx(0.865)
    assert all(it["base"] is not None for it in found["questions"])
    said = call(log.folder, "ignored", "@100").stdout.splitlines()
    assert said[0] == "cats@100:0.6, checkpoint-100, by q"
    assert call(log.folder, "ignored", "@0").stdout.startswith("cats@0, ")
    assert "right answers by q at step 100, strength 1: " in call(log.folder, "status").stdout


def test_means_of_other_prompts_are_no_change(tmp_path: Path) -> None:
    """Where `precision` ended one earlier, its skills stand alone; questions have their own."""
    log = Log(tmp_path)
    log.start("cats", MADE)
    for step, count in ((0, 8), (100, 6)):
        asked = MADE.prompts[:count]
        log.score(
            *("cats", step, {it.id: [0.3] for it in asked}, MADE),
            name="" if step else BASE_NAME,
            others={"q": {it.id: [sum(answers(step, it.id)) / 2] for it in asked}},
            answers=partial(asked_at, step),
        )
    lines = call(log.folder, "ignored", "@100").stdout.splitlines()
    assert "change" not in lines[2]
    assert len([it for it in lines if it.startswith(" 0.")]) == 2 * 6


def test_where_nobody_asked_it_says_so(tmp_path: Path, log: Log) -> None:
    """In one line, with what to do; so of a scorer that does not ask."""
    other = Log(tmp_path)
    other.start("plain")
    other.score("plain", 100, {"p0000": [0.3]})
    said = call(tmp_path, "ignored", "plain")
    assert said.exit_code == 1
    assert said.stderr.startswith("Error: no question was answered about plain@100; no scorer did")
    assert said.stderr.count("\n") == 1
    said = call(log.folder, "ignored", "--scorer", "siglip")
    assert said.exit_code == 1
    assert "'siglip' answered no questions about cats@200; those that did: q" in said.stderr


def test_the_page_holds_every_answer(log: Log, tmp_path: Path) -> None:
    """By checkpoint and prompt, with the questions beside the prompts, as text."""
    file = tmp_path / "page.html"
    assert call(log.folder, "report", "-o", str(file)).exit_code == 0
    page = Parsed(file.read_text(encoding="utf-8"))
    first, second = page.json["data"]["curves"]
    assert first["prompts"][0]["questions"] == [[it.text, it.answer, it.skill] for it in ASKED]
    assert "answers" not in first["checkpoints"][0]
    for step, column in zip((0, 100, 200), second["checkpoints"], strict=True):
        expected = [pytest.approx(answers(step, it.id), abs=1e-4) for it in MADE.prompts]
        assert column["answers"] == expected
        mean, low, high = column["skills"]["count"]
        assert low < mean < high
        assert column["geometric"][0] < column["mean"]
    assert "i" not in page.tags
    assert json.dumps(first["prompts"][0]["questions"][1][0])
