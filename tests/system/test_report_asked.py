"""Answers to the prompts' questions on the page, in a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from browser import Page
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.questions import Question
from page_kit import choose, in_order, load
from report_kit import hostile_protocol, hostile_run
from results_kit import Log, call

SKILLS = "[...document.querySelectorAll('#skills tbody tr')].map(it => it.innerText.split('\\t'))"
IGNORED = "[...document.querySelectorAll('#ignored tbody tr')].map(it => it.innerText.split('\\t'))"
LEGEND = "texts('#chart .u-series th').map(it => it.split(':')[0])"
HIDDEN = "document.getElementById('asked').hidden"
ASKED = (
    Question("How many are there?", "two", "count"),
    Question("<b>Is it red?</b>", "Yes", "attribute"),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log in which counting gets worse and colours get better, two images each."""
    scorers = (ScorerSpec("", "clip"), ScorerSpec("q", "model", kind="questions"))
    made = hostile_protocol(12, images_per_prompt=2, scorers=scorers)
    made = replace(made, prompts=tuple(replace(it, questions=ASKED) for it in made.prompts))

    def answers(step: int, prompt: str, index: int) -> dict[str, tuple[float, ...]]:
        place = int(prompt[1:])
        return {"q": (0.8 - step / 1000 - place / 50, 0.5 + step / 1000 + index / 100)}

    return hostile_run(
        tmp_path_factory.mktemp("state"), images=2, side=32, made=made, answers=answers
    )


def test_skills_are_told_beside_what_they_were(opened: Page) -> None:
    """The weakest first, of the two that are chosen, with their change."""
    assert opened.ask(HIDDEN) is False
    choose(opened, "column", "3")
    rows = opened.ask(SKILLS)
    assert [it[0] for it in rows] == [
        "count",
        "attribute",
        "all of them",
        "prompts as a whole (geometric means)",
    ]
    assert rows[0][1].startswith("0.39 (")
    assert rows[0][2].startswith("0.69 (")
    assert rows[0][3] == "-0.30"
    assert rows[1][3] == "+0.30"


def test_what_is_met_least_leads_to_its_prompt(opened: Page) -> None:
    """Question, answer and probabilities; a click enlarges the image, which lists its own."""
    choose(opened, "column", "3")
    rows = opened.ask(IGNORED)
    assert len(rows) == 20
    assert rows[0][:6] == ["How many are there?", "two", "count", "0.28", "0.58", "-0.30"]
    values = [float(it[3]) for it in rows]
    assert values == sorted(values)
    opened.ask("document.querySelector('#ignored button').click()")
    assert opened.ask("document.getElementById('viewer').open") is True
    facts = opened.ask("texts('#facts tr')")
    assert "How many are there? two\n0.28 (mean of its images)" in facts
    assert any(it.startswith("<b>Is it red?</b> Yes") for it in facts)
    opened.ask("document.getElementById('viewer').close()")


def test_skills_over_the_training_are_drawn(opened: Page) -> None:
    """Where the scorer that asks is chosen; CLIP's curve has none."""
    assert "right answers by skill" not in opened.ask("texts('#measure option')")
    choose(opened, "scorer", "1")
    assert "right answers by skill" in opened.ask("texts('#measure option')")
    choose(opened, "measure", "skills")
    assert opened.ask(LEGEND) == ["step", "attribute", "count"]
    choose(opened, "scorer", "0")


def test_each_protocol_has_its_own_questions(page: Page, tmp_path: Path) -> None:
    """Flipped to one under which other things were asked, the viewer names those."""
    scorers = (ScorerSpec("", "clip"), ScorerSpec("q", "model", kind="questions"))
    folder, log = tmp_path / "state", None
    for asked in (ASKED, (Question("Is it odd?", "No", "odd"),)):
        made = hostile_protocol(8, scorers=scorers)
        made = replace(made, prompts=tuple(replace(it, questions=asked) for it in made.prompts))
        if log:
            log.change("lora-1", made)
        answers = dict.fromkeys("q", (0.5, 0.25)[: len(asked)])
        log = hostile_run(
            folder,
            side=32,
            made=made,
            log=log,
            begun=log is not None,
            prompts=8,
            answers=lambda *_, answers=answers: answers,
        )
    assert call(folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    earlier = "[...document.querySelectorAll('#against optgroup option')].at(-1).value"
    choose(page, "against", page.ask(earlier))
    page.ask('document.querySelector(\'[data-prompt="2"] [data-column="3"]\').click()')
    rows = "texts('#facts tr')"
    assert "Is it odd? No\n0.50" in page.ask(rows)
    page.press("f")
    assert {"How many are there? two\n0.50", "<b>Is it red?</b> Yes\n0.25"} <= {*page.ask(rows)}
    in_order(page, tmp_path)


def test_without_questions_nothing_is_told(page: Page, tmp_path: Path) -> None:
    """The section is not there."""
    log = hostile_run(tmp_path / "state", 8)
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    assert page.ask(HIDDEN) is True
    in_order(page, tmp_path)
