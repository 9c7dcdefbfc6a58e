"""`clipwatch serve` in a browser: what arrives while it is open, and votes by key and by touch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Page
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal, log_file
from clipwatch.results.reading import read_votes
from page_kit import CHOSEN, CURRENT, choose, in_order, load
from report_kit import HOSTILE, hostile_protocol, hostile_run
from results_kit import Log
from score_tables import noisy
from web_kit import Served, served

RUN = "lora-1"
SHOWN = "document.getElementById('ballot-prompt').textContent"
IMAGES = "[...document.querySelectorAll('#ballot-images img')]"
READY = (
    f"{IMAGES}.every(it => it.naturalWidth) && document.getElementById('ballot').open"
    " && !!document.querySelector('#ballot-choices [aria-disabled=false]')"
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log whose prompts are hostile, all of them."""
    return hostile_run(tmp_path / "state", len(HOSTILE), side=48)


@pytest.fixture
def live(page: Page, log: Log) -> Iterator[Served]:
    """Show its page in the browser; all that the page did was in order."""
    with served(log.folder) as it:
        load(page, f"http://{it.address}/")
        yield it
        in_order(page, f"http://{it.address}/")
        page.open("about:blank")  # it looks for news no more


def votes(log: Log) -> list[Voted]:
    """Return the votes in the log."""
    with Journal(log_file(log.folder), read_only=True) as journal:
        return read_votes(journal, RUN)


def test_a_new_result_arrives_and_choices_stay(page: Page, log: Log, live: Served) -> None:
    """Without a reload: a mark that the page carries is still there."""
    page.ask("(window.mark = 'the same page', 1)")
    choose(page, "against", "1")
    page.press("Home")
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.press("ArrowRight")
    known = [page.ask(it) for it in (CHOSEN, CURRENT)]
    assert known[0].startswith("@200")
    page.until("[...document.querySelectorAll('.cell img')].some(it => it.naturalWidth === 48)")
    made = hostile_protocol(len(HOSTILE))
    log.score(RUN, 500, noisy(len(HOSTILE), [0.05])["0"], made)
    live.live.look()
    assert page.until("texts('.column b').includes('@500')")
    assert [page.ask(it).split(",")[0] for it in (CHOSEN,)] == ["@200"]
    assert page.ask(CURRENT) == known[1]
    assert page.ask("document.getElementById('against').selectedOptions[0].text") == "@100"
    assert page.ask("window.mark") == "the same page"
    assert page.ask("document.getElementById('live').textContent") == "live"


def test_votes_by_key_and_touch_are_in_the_log(page: Page, log: Log, live: Served) -> None:
    """Prompts are text, images have no names, and the page then tells what was voted."""
    page.ask("(document.getElementById('vote').click(), 1)")
    answers = ("2", "0", "1")
    for count, key in enumerate(answers):
        page.until(f"{READY} && {SHOWN} && texts('#ballot-said')[0].startsWith('{count} vote')")
        assert page.ask(SHOWN) in HOSTILE
        html = page.ask("document.getElementById('ballot-images').outerHTML")
        assert "checkpoint" not in html
        assert "@" not in html
        page.press(key)
    page.until("texts('#ballot-said')[0].startsWith('3 votes')")
    assert [it.choice for it in votes(log)] == ["right", "neither", "left"]
    choose(page, "question", "better")
    page.until(f"{READY} && texts('#ballot-said')[0].startsWith('0 votes')")
    page.ask("(document.querySelectorAll('#ballot-choices button')[2].click(), 1)")
    page.until("texts('#ballot-said')[0].startsWith('1 vote ')")
    last = votes(log)[-1]
    assert (last.question, last.choice) == ("better", "right")
    page.ask("(document.querySelector('#ballot form button').click(), 1)")
    live.live.look()
    page.until("document.getElementById('votes').textContent.includes('3 votes, 1 of them')")


def test_two_that_are_chosen_are_voted_on(page: Page, log: Log, live: Served) -> None:
    """Those of the slider and of `against`, until all their images are."""
    assert live.address
    choose(page, "against", "1")
    page.press("End")
    page.ask("(document.getElementById('vote').click(), 1)")
    choose(page, "among", "two")
    for count in range(len(HOSTILE)):
        page.until(f"{READY} && texts('#ballot-said')[0].startsWith('{count} vote')")
        page.press("1")
    page.until("texts('#ballot-said')[0].includes('no two of these')")
    met = {frozenset((it.left.split("/")[0], it.right.split("/")[0])) for it in votes(log)}
    assert met == {frozenset(("checkpoint-100", "checkpoint-400"))}


def test_both_images_and_the_buttons_are_in_sight(page: Page, live: Served) -> None:
    """On a desktop and on a phone."""
    for width, height in ((1280, 800), (360, 740)):
        load(page, f"http://{live.address}/", width, height)
        page.ask("(document.getElementById('vote').click(), 1)")
        page.until(READY)
        boxes = page.ask(
            "[...document.querySelectorAll('#ballot-images img, #ballot-choices button')]"
            ".map(it => it.getBoundingClientRect())"
            ".map(it => [it.left, it.top, it.right, it.bottom])"
        )
        assert len(boxes) == 5
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
        assert min(right - left for left, _, right, _ in boxes[:2]) > 150
