"""The chart of prompts against likeness on the page, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Page
from clipwatch.domain.protocol import ScorerSpec
from page_kit import CHOSEN, choose, curve_of, in_order, load
from report_kit import Parsed, hostile_protocol, hostile_run
from results_kit import Log, answer, call

IMAGES = (("images", "/there"),)
SCORERS = (
    ScorerSpec("", "clip"),
    ScorerSpec("clip_i", "clip", kind="likeness", options=IMAGES),
    ScorerSpec("dino", "dino", kind="likeness", options=IMAGES),
    ScorerSpec("light", "", kind="brightness"),
)
HIDDEN = "document.getElementById('tradeoff').hidden"
TITLES = "[...document.querySelectorAll('#front title')].map(it => it.textContent)"
AT = (
    "[...document.querySelectorAll('#front .point')]"
    ".map(it => it.getBoundingClientRect()).map(it => [it.x + it.width / 2, it.y + it.height / 2])"
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log whose further scorers find the checkpoints in the opposite order."""
    return hostile_run(tmp_path_factory.mktemp("state"), made=hostile_protocol(12, scorers=SCORERS))


def test_each_checkpoint_is_a_point(opened: Page, log: Log, file: Path) -> None:
    """Higher means lie farther up and to the right; those of the front are told as best does."""
    assert opened.ask(HIDDEN) is False
    assert opened.ask("texts('#likeness option')") == [
        "clip_i (likeness:clip)",
        "dino (likeness:dino)",
    ]
    curves = Parsed(file.read_text(encoding="utf-8")).json["data"]["curves"]
    prompts, likeness = (it["checkpoints"] for it in (curve_of(file), curves[1]))
    titles, places = opened.ask(TITLES), opened.ask(AT)
    assert [it.split(":")[0] for it in titles] == ["base", "@100", "@200", "@300", "@400"]
    for a in range(5):
        for b in range(5):
            across, up = places[a][0] - places[b][0], places[b][1] - places[a][1]
            assert across == 0 or (across > 0) == (likeness[a]["mean"] > likeness[b]["mean"])
            assert up == 0 or (up > 0) == (prompts[a]["mean"] > prompts[b]["mean"])
    found = answer(log.folder, "best", "--against", "clip_i")["against"]["front"]
    front = [it.split(":")[0] for it in titles if it.endswith(", on the front")]
    assert front == [f"@{it['step']}" for it in found]


def test_a_point_is_chosen(opened: Page) -> None:
    """By a click, and a ring is around it; by another likeness points lie elsewhere."""
    assert opened.ask("document.querySelectorAll('#front .ring').length") == 1
    before = opened.ask(AT)
    opened.ask("document.querySelectorAll('#front .point')[4].dispatchEvent(new Event('click'))")
    assert opened.ask(CHOSEN).startswith("@400")
    assert opened.ask(AT) == before
    choose(opened, "scorer", "2")  # seen by likeness, the chart stays
    assert opened.ask(CHOSEN).startswith("@400")
    assert opened.ask(HIDDEN) is False
    choose(opened, "likeness", "dino")
    opened.ask("document.querySelectorAll('#front .point')[1].dispatchEvent(new Event('click'))")
    assert opened.ask(CHOSEN).startswith("@100")
    assert opened.ask("document.getElementById('scorer').value") == "2"


def test_without_likeness_there_is_no_chart(page: Page, tmp_path: Path) -> None:
    """A scorer of another kind has none."""
    made = hostile_protocol(8, scorers=(SCORERS[0], SCORERS[3]))
    log = hostile_run(tmp_path / "state", 8, made=made)
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    assert page.ask(HIDDEN) is True
    in_order(page, tmp_path)
