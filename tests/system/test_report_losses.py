"""Held-out losses on the page of `clipwatch report`, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from browser import Page
from loss_kit import OTHER, measure
from page_kit import CHOSEN, choose, curve_of, in_order, load
from report_kit import hostile_protocol, hostile_run
from results_kit import Log, answer, call

MADE = hostile_protocol(12)
LEVELS = {0: 0.9, 100: 0.8, 200: 0.7, 300: 0.699, 400: 0.85}
LEGEND = "texts('#chart .u-series:not(.u-off) th').map(it => it.split(':')[0])"
OFFERED = "texts('#measure option')"
TITLE = "held-out loss, lower is better"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log whose losses are lowest at step 300, and hardly higher at 200."""
    log = Log(tmp_path_factory.mktemp("state"))
    for step, level in LEVELS.items():
        measure(log, "lora-1", step, level)
    return hostile_run(log.folder, made=MADE, log=log)


def test_the_loss_is_drawn(opened: Page, file: Path, log: Log, tmp_path: Path) -> None:
    """With its interval, that of the training's images and the base; the lowest is the best."""
    assert TITLE in opened.ask(OFFERED)
    choose(opened, "measure", "loss")
    assert opened.ask(LEGEND) == [
        *("step", TITLE, "95 % to", "95 % from", "images of the training", "base")
    ]
    opened.ask("scrollTo(0, 0)")
    box = opened.ask(
        "(r => [r.left, r.top, r.right, r.bottom])(document.querySelector('canvas')"
        ".getBoundingClientRect())"
    )
    opened.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        found = {colour for _, colour in image.convert("RGB").crop(box).getcolors(1 << 20) or ()}
    for colour in ((37, 99, 235), (194, 65, 12), (122, 92, 0)):  # line, marks, base
        assert colour in found
    columns = curve_of(file)["checkpoints"]
    best = answer(log.folder, "best")["loss"]
    marks = {it["step"]: it["loss"]["mark"] for it in columns}
    assert marks == {0: "", 100: "", 200: "tied", 300: "best", 400: ""}
    assert best["best"]["step"] == 300
    lowest = columns[3]["loss"]
    assert lowest["heldout"] == pytest.approx(best["best"]["mean"])
    assert lowest["low"] < lowest["heldout"] < lowest["high"]
    choose(opened, "measure", "noise")
    assert opened.ask(LEGEND) == ["step", "low noise", "mid noise", "high noise"]


def test_it_says_what_the_commands_say(opened: Page, log: Log) -> None:
    """Where the loss is lowest, and how two compare, whichever is first."""
    said = call(log.folder, "best").stdout.splitlines()
    sentences = opened.ask("texts('#sentences p')")
    assert sentences[-1].startswith("The held-out loss is lowest at @300: 0.69")
    assert set(sentences) <= set(said)
    for a, b, column, place, word in (
        (100, 300, "3", "1", "lower"),
        (300, 100, "1", "3", "higher"),
    ):
        choose(opened, "against", place)
        choose(opened, "column", column)
        assert opened.ask(CHOSEN).startswith(f"@{b}")
        told = opened.ask("texts('#compared p')")
        assert f"The held-out loss of @{b} is {word} than that of @{a} by " in " ".join(told)
        assert set(told) <= set(call(log.folder, "compare", f"@{a}", f"@{b}").stdout.splitlines())


def test_only_losses_of_the_same_images_are_drawn(page: Page, tmp_path: Path) -> None:
    """Those of the newest ones; how many are left out is told. Without any there is no choice."""
    log = hostile_run(tmp_path / "without", made=MADE)
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    assert not any("loss" in it for it in page.ask(OFFERED))
    log = Log(tmp_path / "with")
    for step, level in LEVELS.items():
        measure(log, "lora-1", step, level, of=OTHER if step < 300 else None)
    hostile_run(log.folder, made=MADE, log=log)
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    choose(page, "measure", "loss")
    assert page.ask(LEGEND) == [*("step", TITLE, "95 % to", "95 % from", "images of the training")]
    drawn = [it["loss"] is not None for it in curve_of(tmp_path / "page.html")["checkpoints"]]
    assert drawn == [False, False, False, True, True]
    assert "Not drawn are losses of 3 checkpoints: they are of other images" in page.ask(
        "document.getElementById('notes').innerText"
    )
    in_order(page, tmp_path / "page.html")
