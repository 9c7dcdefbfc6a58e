"""Newer data in the page of `clipwatch report`, which is open meanwhile."""

from __future__ import annotations

from pathlib import Path

from browser import Page
from page_kit import CHOSEN, CURRENT, ORDER, choose, in_order, load
from report_kit import hostile_run
from results_kit import call

DATA = "JSON.parse(document.getElementById('data').textContent)"
IMAGES = "JSON.parse(document.getElementById('images-0').textContent)"
FRESH = f"""(() => {{
    const data = {DATA}, images = {IMAGES}, [it] = data.curves;
    it.checkpoints.splice(1, 0, {{...it.checkpoints[1], step: 50, name: "checkpoint-50"}});
    images.splice(1, 0, images[1]);
    it.best += 1;
    data.curves.unshift({{...it, run: "another"}});
    clipwatch.load(data, [images, images]);
    return 1;
}})()"""


def test_what_a_reader_has_chosen_stays_chosen(page: Page, tmp_path: Path) -> None:
    """Though another run comes before it, and a checkpoint before the chosen one."""
    log = hostile_run(tmp_path / "state", 12, side=48)
    assert call(log.folder, "report", "-o", str(tmp_path / "page.html")).exit_code == 0
    load(page, tmp_path / "page.html")
    choose(page, "against", "1")
    choose(page, "sort", "gain")
    choose(page, "category", "places")
    page.press("End")
    page.press("ArrowRight")
    known = [page.ask(it) for it in (CHOSEN, CURRENT, ORDER)]
    assert known[0] == "@400"
    assert page.ask(FRESH) == 1
    assert [page.ask(it) for it in (CHOSEN, CURRENT, ORDER)] == known
    assert page.ask("document.getElementById('against').selectedOptions[0].text") == "@100"
    assert page.ask("document.getElementById('category').value") == "places"
    assert page.ask("texts('#curve option')")[0].startswith("another")
    assert page.ask("document.getElementById('curve').value") == "1"
    assert page.ask("texts('.column b')") == ["base", "@50", "@100", "@200", "@300", "@400"]
    page.until("[...document.querySelectorAll('.cell img')].some(it => it.naturalWidth === 48)")
    in_order(page, tmp_path)
