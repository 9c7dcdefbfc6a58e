"""What can be chosen on the page of `clipwatch report`: measures, scorers, pairs of runs, axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import Page
from clipwatch.domain.events import OutputDirChecked
from clipwatch.domain.protocol import ScorerSpec
from page_kit import CHOSEN, OPEN, choose, curve_of, in_order, load
from report_kit import CATEGORIES, HOSTILE, hostile_protocol, hostile_run
from results_kit import Log, answer, call
from score_tables import noisy

SCORERS = (ScorerSpec("", "clip"), ScorerSpec("light", "", kind="brightness"))
LEGEND = "texts('#chart .u-series:not(.u-off) th').map(it => it.split(':')[0])"
SAID = "texts('#compared p')"
HEADS = "texts('.column b')"
CELLS = (
    "[...document.querySelectorAll('.line')].sort((a, b) => a.offsetTop - b.offsetTop)"
    ".map(line => [...line.querySelectorAll('.cell')].map(it => it.querySelector('img')?.alt"
    ".split(':')[0] ?? it.innerText.split('\\n')[0]))"
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log of two runs that are scored alike, and of one that is not."""
    folder = tmp_path_factory.mktemp("state")
    made = hostile_protocol(12, images_per_prompt=2, scorers=SCORERS)
    log = hostile_run(folder, 12, images=2, made=made)
    hostile_run(folder, 12, (0, 100, 200), images=2, made=made, run="lora-2", log=log, seed=3)
    other = replace(made, guidance=7.0)
    hostile_run(folder, 12, (0, 100), images=2, made=other, run="other", log=log, seed=5)
    return log


def against(page: Page, text: str) -> None:
    """Choose what the shown checkpoint is compared with, by what it is called."""
    options = "[...document.querySelectorAll('#against option')]"
    value = page.ask(f"{options}.find(it => it.text.split(' (')[0] === {text!r}).value")
    choose(page, "against", value)


def test_further_measures_are_drawn(opened: Page, log: Log) -> None:
    """Lowest and highest when asked for; each category; the difference that compare tells."""
    assert opened.ask(LEGEND) == ["step", "mean", "95 % to", "95 % from", "base"]
    opened.ask("document.getElementById('extremes').click()")
    assert opened.ask(LEGEND) == ["step", "mean", "95 % to", "95 % from", "min", "max", "base"]
    choose(opened, "measure", "categories")
    assert opened.ask(LEGEND) == ["step", *sorted(CATEGORIES)]
    choose(opened, "measure", "delta")
    assert opened.ask(LEGEND) == ["step", "mean less the base's", "95 % to", "95 % from", "base"]
    told = answer(log.folder, "compare", "lora-1@0", "lora-1@200")
    data = "JSON.parse(document.getElementById('data').textContent).curves[0].checkpoints[2]"
    assert opened.ask(f"{data}.delta") == [told["delta"], *told["ci"]]
    choose(opened, "measure", "std")
    assert opened.ask(LEGEND)[1].startswith("standard deviation")
    choose(opened, "curve", str(curves(opened, "lora-2")))
    assert opened.ask("document.getElementById('measure').value") == "std"


def curves(page: Page, run: str) -> int:
    """Return the place of a run's curve."""
    found = page.ask(
        "JSON.parse(document.getElementById('data').textContent).curves"
        f".findIndex(it => it.run === {run!r})"
    )
    assert isinstance(found, int)
    return found


def test_means_of_categories_are_those_of_their_prompts(file: Path) -> None:
    """Which the log has, too."""
    curve = curve_of(file)
    for it in curve["checkpoints"]:
        for name in CATEGORIES:
            rows = [
                row
                for row, prompt in zip(it["scores"], curve["prompts"], strict=True)
                if prompt["category"] == name
            ]
            flat = [score for row in rows for score in row]
            assert it["categories"][name] == pytest.approx(sum(flat) / len(flat), abs=1e-12)


def test_a_further_scorer_has_verdicts_of_its_own(opened: Page, log: Log) -> None:
    """Those of best and compare with --scorer; its scores stand beside the image."""
    choose(opened, "against", "1")
    choose(opened, "scorer", "1")
    said = call(log.folder, "best", "lora-1", "--scorer", "light").stdout
    assert all(text in said for text in opened.ask("texts('#sentences p')"))
    assert opened.ask(CHOSEN) == "@200, tied"  # which was the best by the other
    names = ("lora-1@100", "lora-1@200")
    lines = call(log.folder, "compare", *names, "--scorer", "light").stdout.splitlines()
    told = opened.ask(SAID)
    assert len(told) == 2
    assert all(text in lines for text in told)
    opened.press("Enter")
    assert "By clip" in opened.ask("document.getElementById('facts').innerText")


def test_checkpoints_of_two_runs_are_compared(opened: Page, log: Log) -> None:
    """As compare does, with the images of both; and why not, where they were not scored alike."""
    against(opened, "lora-2 @100")
    lines = call(log.folder, "compare", "lora-2@100", "lora-1@200").stdout.splitlines()
    told = opened.ask(SAID)
    assert len(told) == 2
    assert all(text in lines for text in told)
    alts = opened.ask("[...document.querySelectorAll('.move img')].map(it => it.alt)")
    assert {text.split(":")[0] for text in alts} == {"lora-2 @100", "@200"}
    against(opened, "other @100")
    said = call(log.folder, "compare", "other@100", "lora-1@200")
    (why,) = opened.ask(SAID)
    assert why.endswith(": guidance 3.0 and 7.0")
    assert "cannot be compared: guidance 7.0 and 3.0" in said.stderr
    assert opened.ask("texts('.move')") == []
    opened.press("w")  # but looked at they can be
    opened.until("document.getElementById('over').naturalWidth")
    assert opened.ask("document.getElementById('name-left').textContent") == "other @100"


def test_the_scores_of_both_lie_over_each_other(opened: Page, tmp_path: Path) -> None:
    """In a histogram with both colours and names."""
    assert opened.ask("texts('#histogram .u-series th').map(it => it.split(':')[0])") == [
        *("score from", "images of base", "images of @200")
    ]
    opened.ask("document.getElementById('histogram').scrollIntoView()")
    opened.ask("scrollBy(0, -100)")
    opened.screenshot(tmp_path / "page.png")
    box = opened.ask(
        "(r => [r.left, r.top, r.right, r.bottom])(document.querySelector('#histogram canvas')"
        ".getBoundingClientRect())"
    )
    with Image.open(tmp_path / "page.png") as image:
        found = {colour for _, colour in image.convert("RGB").crop(box).getcolors(1 << 20) or ()}
    assert {(37, 99, 235), (122, 92, 0)} <= found


def test_axes_are_chosen_and_swapped(opened: Page) -> None:
    """Among prompt, checkpoint, image and run; the base has a column where it has no other."""
    assert opened.ask("texts('#rows option')") == [
        *("prompt", "checkpoint", "image of a prompt", "run")
    ]
    choose(opened, "rows", "checkpoint")
    assert opened.ask("document.getElementById('columns').value") == "prompt"
    assert opened.ask(HEADS)[:2] == [text.strip() for text in HOSTILE[:2]]
    opened.press("x")
    assert opened.ask(HEADS) == ["base", "@100", "@200", "@300", "@400"]
    choose(opened, "columns", "image")
    assert opened.ask(HEADS) == ["base", "image 1", "image 2"]
    assert opened.ask(CELLS)[0] == ["base", "@200", "@200"]
    opened.ask("document.querySelectorAll('.line')[1].querySelectorAll('.cell')[2].click()")
    assert opened.ask(OPEN) is True
    assert "2 of 2" in opened.ask("document.getElementById('facts').innerText")
    opened.press("Enter")
    choose(opened, "columns", "run")
    choose(opened, "column", "2")
    assert opened.ask(CELLS)[0] == ["base", "@200", "lora-2 @200", "not there"]
    assert opened.ask("document.getElementById('fixed').textContent") == "checkpoint @200 · image 2"
    opened.ask("document.querySelectorAll('.column')[2].click()")
    assert opened.ask("document.getElementById('curve').selectedOptions[0].text").startswith(
        "lora-2"
    )
    assert opened.ask(CELLS)[0] == ["base", "lora-1 @200", "@200", "not there"]
    choose(opened, "rows", "checkpoint")
    assert opened.ask("texts('.line p')") == ["base", "@100", "@200"]
    assert opened.ask(CELLS)[1] == ["lora-1 @100", "@100", "other @100"]


def test_strengths_are_an_axis(page: Page, tmp_path: Path) -> None:
    """Where there are several; the base is scored once and shown beside all."""
    made = hostile_protocol(8)
    log = Log(tmp_path / "state")
    log.start_at("lora-1", 1.0, 0.6, made=made)
    for strength, seed in ((1.0, 1), (0.6, 2)):
        steps = (0, 100, 200) if strength == 1.0 else (100, 200)
        hostile_run(
            tmp_path / "state", 8, steps, made=made.at(strength), log=log, seed=seed, begun=True
        )
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    choose(page, "columns", "strength")
    assert page.ask(HEADS) == ["base", "strength 1", "strength 0.6"]
    choose(page, "column", "1")
    assert page.ask(CELLS)[0] == ["base", "@100", "@100, strength 0.6"]
    against(page, "@100, strength 0.6")
    lines = call(log.folder, "compare", "100:0.6", "100:1").stdout.splitlines()
    assert all(text in lines for text in page.ask(SAID))
    in_order(page, tmp_path)


def test_what_was_skipped_is_said(page: Page, tmp_path: Path) -> None:
    """Fewer images than asked for, with the checkpoint; and what is wrong with the run."""
    log = Log(tmp_path / "state")
    made = hostile_protocol(8)
    log.start("one", made)
    tables = noisy(8, [0.0, 0.01])
    log.score("one", 100, tables["0"], made)
    log.score("one", 200, dict([*tables["1"].items()][:5]), made)
    log.add("one", "run/one", OutputDirChecked("/out does not exist yet"))
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    said = page.ask("texts('#notes p')")
    assert "Of 8 images fewer were scored of @200 (5)." in said
    assert "/out does not exist yet" in said
    in_order(page, tmp_path)


def test_a_page_beside_its_images_says_why_it_saves_no_picture(
    page: Page, log: Log, tmp_path: Path
) -> None:
    """Opened from a file a browser keeps images beside it apart."""
    file = tmp_path / "page.html"
    told = ("report", "-o", str(file), "--assets", str(tmp_path / "images"))
    assert call(log.folder, *told).exit_code == 0
    load(page, file)
    page.press("s")
    page.until("document.getElementById('saved').textContent")
    said = page.ask("document.getElementById('saved').textContent")
    assert said.endswith("make the page without --assets.")


def test_the_view_is_saved_as_one_labelled_picture(opened: Page, tmp_path: Path) -> None:
    """Rows in sight with all columns, each image in its place, and nothing is asked of anybody."""
    image = Image.open(opened.download(tmp_path, "s"))
    assert opened.ask("document.getElementById('saved').textContent").startswith("saved: ")
    assert image.format == "PNG"
    width, height = image.size
    assert width == 240 + 16 + 5 * 264
    rows = (height - 96) // 288
    assert rows in (2, 3)
    pixels = image.convert("RGB")
    for column in range(5):
        place = 256 + column * 264 + 200, 88 + 24
        colour: Any = pixels.getpixel(place)
        assert abs(colour[0] - 40 * column) < 16, (column, colour)
    heads = pixels.crop((0, 0, width, 88)).getcolors(1 << 20) or []
    assert (22, 24, 29) in {colour for _, colour in heads}
    assert (194, 65, 12) in {colour for _, colour in heads}
