"""The page of `clipwatch report` in a real browser."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
from PIL import Image

from browser import Page
from clipwatch.report.page import assembled
from page_kit import CHOSEN, CURRENT, OPEN, ORDER, choose, curve_of, in_order, load
from report_kit import HOSTILE, Parsed, hostile_run
from results_kit import Log, answer, call, protocol
from score_tables import noisy

PROMPTS = 30


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log with a run of a base and four checkpoints, 300 the best."""
    return hostile_run(tmp_path_factory.mktemp("state"), PROMPTS, side=96)


def test_the_chart_is_drawn(opened: Page, tmp_path: Path) -> None:
    """With its line, band, base, the marks of best and tied, and advice."""
    opened.ask("scrollTo(0, 0)")
    box = opened.ask(
        "(r => [r.left, r.top, r.right, r.bottom])(document.querySelector('canvas')"
        ".getBoundingClientRect())"
    )
    opened.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        found = {colour for _, colour in image.convert("RGB").crop(box).getcolors(1 << 20) or ()}
    for colour in ((37, 99, 235), (194, 65, 12), (122, 92, 0), (147, 51, 234)):
        assert colour in found
    assert [text.split(":")[0] for text in opened.ask("texts('#chart .u-series th')")] == [
        *("step", "mean", "95 % to", "95 % from", "min", "max", "base")
    ]
    assert opened.ask("texts('#advice li')") == [
        "step 300: plateau The mean rises no more. <b>People</b> stop here."
    ]


def test_the_verdicts_are_those_of_the_commands(opened: Page, log: Log) -> None:
    """Of the best, and of any two that are chosen; with the prompts that changed most."""
    said = call(log.folder, "best").stdout
    assert all(text in said for text in opened.ask("texts('#sentences p')"))
    for a, b, column, against in ((0, 300, "3", "0"), (200, 400, "4", "2"), (400, 100, "1", "4")):
        choose(opened, "against", against)
        choose(opened, "column", column)
        lines = call(log.folder, "compare", f"@{a}", f"@{b}").stdout
        told = opened.ask("texts('#compared p')")
        assert len(told) == 2
        assert all(text in lines.splitlines() for text in told)
        moves = re.findall(r"^  ([+-]\S+)  (\S+ to \S+)  ", lines, re.MULTILINE)
        shown = [tuple(text.split(" ", 1)) for text in opened.ask("texts('.move .score')")]
        assert shown == moves


def test_counts_without_an_interval_are_those_of_compare(
    page: Page, file: Path, log: Log, tmp_path: Path
) -> None:
    """Of many prompts not every pair has one: what can be counted is counted here."""
    known = Parsed(file.read_text(encoding="utf-8")).json
    known["data"]["pairs"] = {}
    text = assembled(known["data"], [known["images-0"]])
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    load(page, tmp_path / "page.html")
    choose(page, "column", "1")
    found = answer(log.folder, "compare", "@0", "@100")
    assert page.ask("texts('#compared p')") == [
        (
            f"@100 less base is {found['delta']:.4f} on {PROMPTS} prompts: higher on "
            f"{found['wins']}, equal on {found['ties']}, lower on {found['losses']}."
        ),
        "How sure that is: clipwatch compare lora-1@0 lora-1@100",
    ]


def test_the_slider_moves_all_images_to_a_checkpoint(opened: Page) -> None:
    """In the view of one checkpoint; each image is that of its place."""
    assert opened.ask(CHOSEN) == "@300, best"
    choose(opened, "columns", "")
    before = opened.ask("[...document.querySelectorAll('.card img')].map(it => it.src)")
    choose(opened, "column", "1")
    after = opened.ask("[...document.querySelectorAll('.card img')].map(it => it.src)")
    assert opened.ask(CHOSEN) == "@100"
    assert len(before) == len(after) > 5
    assert not set(before) & set(after)
    alts = opened.ask("[...document.querySelectorAll('.card img')].map(it => it.alt)")
    assert alts[0] == f"@100: {HOSTILE[0]}"
    opened.until("[...document.querySelectorAll('.card img')].some(it => it.naturalWidth === 96)")


def test_the_keys_go_through_checkpoints_and_prompts(opened: Page) -> None:
    """Up and down, left and right, to the ends and to the best."""
    for key, column, prompt in (
        ("ArrowUp", "@200, tied", "0"),
        ("ArrowDown", "@300, best", "0"),
        ("ArrowDown", "@400", "0"),
        ("ArrowDown", "@400", "0"),
        ("ArrowRight", "@400", "1"),
        ("ArrowRight", "@400", "2"),
        ("ArrowLeft", "@400", "1"),
        ("Home", "base", "1"),
        ("b", "@300, best", "1"),
        ("End", "@400", "1"),
    ):
        opened.press(key)
        assert (opened.ask(CHOSEN), opened.ask(CURRENT)) == (column, prompt), key
    opened.ask("document.getElementById('column').focus()")  # where a slider's own keys differ
    opened.press("ArrowUp")
    assert opened.ask(CHOSEN) == "@300, best"
    opened.press("ArrowDown")
    opened.press("?")
    assert opened.ask("document.getElementById('keys').open") is True
    assert "best checkpoint" in opened.ask("document.getElementById('keys').innerText")
    opened.press("?")
    assert opened.ask("document.getElementById('keys').open") is False
    opened.press("/")
    assert opened.ask("document.activeElement.id") == "find"
    opened.press("b")  # now it is a letter
    assert opened.ask(CHOSEN) == "@400"


def test_an_image_is_enlarged_flipped_and_wiped(opened: Page, file: Path) -> None:
    """With prompt, seed, score and its changes."""
    opened.ask('document.querySelector(\'[data-prompt="2"] [data-column="3"]\').click()')
    assert opened.ask(OPEN) is True
    assert opened.ask("document.getElementById('text').textContent") == HOSTILE[2]
    facts = dict(
        opened.ask(
            "[...document.querySelectorAll('#facts tr')]"
            ".map(it => [...it.children].map(cell => cell.textContent))"
        )
    )
    curve = curve_of(file)
    scores = [it["scores"][2][0] for it in curve["checkpoints"]]
    assert facts == {
        "Checkpoint": "@300, best",
        "Score": f"{scores[3]:.4f}",
        "Change to the base": f"{scores[3] - scores[0]:+.4f}",
        "Change to @200": f"{scores[3] - scores[2]:+.4f}",
        "Seed": curve["prompts"][2]["seeds"][0],
        "Category": "<i>odd</i>",
        "Prompt": "p0002",
    }
    under = "document.getElementById('under').alt.split(':')[0]"
    # how much of the other image is seen: it is as wide as the stage is high
    over = (
        "(it => it.hidden ? '' : (right => Math.round(100 * (it.clientWidth / 2 - right) "
        "/ it.clientHeight + 50))(parseFloat(it.style.clipPath.split(' ')[1])))"
        "(document.getElementById('over'))"
    )
    assert (opened.ask(under), opened.ask(over)) == ("@300", "")
    opened.press("f")
    assert (opened.ask(under), opened.ask(over)) == ("base", "")
    opened.press("f")
    opened.press("w")
    opened.until("document.getElementById('over').naturalWidth")
    assert (opened.ask(under), opened.ask(over)) == ("@300", 50)
    opened.press("]")
    assert opened.ask(over) == 55
    choose(opened, "wipe", "10")
    assert opened.ask(over) == 10
    opened.press("ArrowUp")
    opened.press("ArrowRight")
    assert opened.ask(under) == "@200"
    assert opened.ask("document.getElementById('text').textContent") == HOSTILE[3]
    opened.press("Enter")
    assert opened.ask(OPEN) is False


def test_prompts_are_sorted_and_found(opened: Page, file: Path) -> None:
    """By gain, loss, score and spread; by category and words."""
    curve = curve_of(file)
    table = [[row[0] for row in it["scores"]] for it in curve["checkpoints"]]
    base, best = table[0], table[3]
    wanted = {
        "gain": lambda n: base[n] - best[n],
        "loss": lambda n: best[n] - base[n],
        "high": lambda n: -best[n],
        "low": lambda n: best[n],
        "spread": lambda n: min(row[n] for row in table) - max(row[n] for row in table),
        "order": lambda n: n,
    }
    for name, key in wanted.items():
        choose(opened, "sort", name)
        shown = opened.ask(ORDER)
        assert shown == sorted(range(PROMPTS), key=key)[: len(shown)], name
        assert len(shown) > 3
    choose(opened, "category", "places")
    assert opened.ask(ORDER)[:3] == [1, 4, 7]
    assert opened.ask("document.getElementById('count').textContent") == "10 of 30 prompts"
    choose(opened, "find", "number 7 THING")
    assert opened.ask(ORDER) == [7]
    choose(opened, "find", "كرسي")
    choose(opened, "category", "")
    assert opened.ask(ORDER) == [2]


def test_prompts_are_text(opened: Page) -> None:
    """Whatever is in them, and in the names of categories."""
    for number, text in enumerate(HOSTILE):
        shown = f"document.querySelector('[data-prompt=\"{number}\"] p')"
        assert opened.ask(f"{shown}.textContent") == text
        assert opened.ask(f"{shown}.children.length") == 0
    assert (
        opened.ask("getComputedStyle(document.querySelector('[data-prompt=\"2\"] p')).direction")
        == "rtl"
    )
    assert opened.ask("document.scripts.length") == 4


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_cards_and_no_page_wider_than_itself(
    page: Page, file: Path, dark: bool
) -> None:
    """Light and dark; however long names are, of scorers that lie deep in folders say."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])
    try:
        load(page, file, 390, 844)
        assert page.ask("document.querySelectorAll('.card').length") > 2
        page.ask(
            "document.querySelectorAll('option').forEach(it => it.textContent += 'm'.repeat(99))"
        )
        assert page.ask("document.documentElement.scrollWidth") <= 390
        red = page.ask("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
        assert (red < 40) is dark
        in_order(page, file.parent)
    finally:
        page.call("Emulation.setEmulatedMedia", features=[])


def test_images_beside_the_page_are_shown(page: Page, log: Log, tmp_path: Path) -> None:
    """Though a strict policy stands in it."""
    file = tmp_path / "page.html"
    arguments = ("report", "-o", str(file), "--assets", str(tmp_path / "some images"))
    assert call(log.folder, *arguments).exit_code == 0
    load(page, file)
    page.until("[...document.querySelectorAll('.cell img')].some(it => it.naturalWidth === 96)")
    in_order(page, tmp_path)


def test_another_protocol_is_chosen_and_never_joined(page: Page, tmp_path: Path) -> None:
    """The present one is shown first; the other has its own points, prompts and note."""
    log = Log(tmp_path / "state")
    old, new = protocol(8), protocol(8, guidance=5.0)
    tables = list(noisy(8, [0.0, 0.01, 0.02, 0.0]).values())
    log.start("one", old)
    for step, table in zip((100, 200, 300), tables, strict=False):
        log.score("one", step, table, old)
    log.change("one", new)
    log.score("one", 200, tables[3], new)
    file = tmp_path / "page.html"
    assert call(log.folder, "report", "-o", str(file)).exit_code == 0
    load(page, file)
    columns = "texts('.column b')"
    assert page.ask(columns) == ["@200"]
    assert page.ask("texts('#sentences p')")[1] == "It is the only one with scores."
    assert page.ask("texts('#notes p')") == []
    choose(page, "curve", "1")
    assert page.ask(columns) == ["@100", "@200", "@300"]
    [note] = page.ask("texts('#notes p')")
    assert "before the settings or model files changed (guidance 3.0 and 5.0)" in note
    assert page.ask("document.querySelectorAll('#chart canvas').length") == 1
    assert set(page.ask("texts('.none')")) == {"no image"}
    page.ask("1")
    assert "Runtime.exceptionThrown" not in {it["method"] for it in page.events}


def test_all_prompts_of_many_checkpoints_do_not_freeze_it(
    page: Page, file: Path, tmp_path: Path
) -> None:
    """1,632 prompts of 21 checkpoints: only what is in sight exists, wherever one scrolls."""
    small = Parsed(file.read_text(encoding="utf-8")).json
    data = deepcopy(small["data"])
    curve = data["curves"][0]
    curve["prompts"] = [{**curve["prompts"][n % PROMPTS], "id": f"p{n:04}"} for n in range(1632)]
    for it in curve["checkpoints"]:
        it["scores"] = [it["scores"][n % PROMPTS] for n in range(1632)]
    base, *others = curve["checkpoints"]
    curve["checkpoints"] = [
        base,
        *({**others[n % 4], "step": 100 * n + 100, "mark": ""} for n in range(20)),
    ]
    data["pairs"] = {}
    images = small["images-0"]
    cells = [[images[n % 5][m % PROMPTS] for m in range(1632)] for n in range(21)]
    (tmp_path / "page.html").write_text(assembled(data, [cells]), encoding="utf-8")
    load(page, tmp_path / "page.html")
    scroller = "document.getElementById('scroller')"
    for place in (0.5, 1.0, 0.25):
        page.ask(f"{scroller}.scrollTop = {place} * {scroller}.scrollHeight")
        first = int(place * 1632) - 15
        page.until(f"{ORDER}.some(it => it >= {first})")
        assert page.ask("document.querySelectorAll('.line').length") < 20
        assert page.ask("document.querySelectorAll('img').length") < 500
    choose(page, "sort", "gain")
    page.press("End")
    assert page.ask(CHOSEN) == "@2000"
    in_order(page, tmp_path)
