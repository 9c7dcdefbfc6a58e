"""What a person sees first when TensorBoard is opened in a browser."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from browser import Page
from clipwatch.domain.protocol import Prompt
from clipwatch.testing.series import make_protocol, make_series, with_everything
from places import ROOT
from tensorboard_kit import Server, publish_each, target_below, tensorboard, until

CATEGORIES = ("actions", "colours", "food", "places")
PROMPTS = tuple(
    Prompt(f"{kind}-{number}", f"{kind} of the kind <{number}>", kind)
    for kind in CATEGORIES
    for number in range(3)
)
STEPS = [0, 100, 200, 300]
SEEN = "e => [e.getBoundingClientRect().top, e.getBoundingClientRect().left]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a TensorBoard with a trainer's run and all that our scores may have."""
    folder, logdir = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("logs")
    target = target_below(logdir, folder, "training")
    writer = EventFileWriter(str(logdir / "training"))
    for step in range(0, 301, 10):
        values = {"epoch": step / 100, "learning_rate": 1e-4, "train_loss": math.exp(-step / 200)}
        summary = Summary(value=[Summary.Value(tag=t, simple_value=x) for t, x in values.items()])
        writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))
    writer.close()
    publish_each(
        target, with_everything(make_series(folder, STEPS, protocol=make_protocol(PROMPTS)))
    )
    with tensorboard(logdir, ["--logdir", str(logdir)], folder) as server:
        until(lambda: len(server.get("plugin/scalars/tags")), 2)
        yield server


def address(server: Server, tab: str) -> str:
    """Return the address of a tab."""
    return f"http://127.0.0.1:{server.port}/#{tab}"


def shot(page: Page, path: Path) -> Image.Image:
    """Return what the window shows, which is kept at `path`."""
    page.screenshot(path)
    return Image.open(BytesIO(path.read_bytes())).convert("RGB")


def colours(page: Page, path: Path) -> int:
    """Return how many colours the window shows: an empty page has few."""
    return len(shot(page, path).getcolors(1 << 24) or ())


def test_the_product_is_seen_first(server: Server, page: Page, tmp_path: Path) -> None:
    """The first group is `clip` with its four cards; the mean is in the first row, with a value."""
    page.open(address(server, "timeseries"), height=1000)
    page.until("texts('card-view').filter(text => text.includes('Value')).length >= 4")
    cards = page.ask("texts('card-view')")
    assert [card.replace("\n", "").partition("Alt")[0] for card in cards[:4]] == [
        *("clip/max", "clip/mean", "clip/min", "clip/std")
    ]
    assert f"{server.points('training/clipwatch', 'clip/mean')[-1][1]}" in cards[1]
    groups = page.ask("texts('.group-title')")
    assert groups[:2] == ["Pinned", "clip"]
    assert groups[2:6] == [f"clip_{name}" for name in ("category", "count", "delta", "interval")]
    scorers = [group for group in groups if group.startswith("scorer_")]
    assert groups[6:] == ["clipwatch", "epoch", "learning_rate", *scorers, "train_loss"]
    first, mean, *_ = page.ask(f"everywhere('card-view').map({SEEN})")
    assert mean[0] == first[0] < 400
    assert mean[1] < 1280
    assert colours(page, tmp_path / "timeseries.png") > 100


def test_the_custom_scalars_begin_with_the_mean_in_its_band(
    server: Server, page: Page, tmp_path: Path
) -> None:
    """The first chart is the mean within its interval, for a person and not only in the layout."""
    page.open(address(server, "custom_scalars"), height=1200)
    cards = (
        "everywhere('tf-custom-scalar-margin-chart-card, tf-custom-scalar-multi-line-chart-card')"
    )
    page.until(f"{cards}.length == 9 && everywhere('.area', document).length")
    seen = page.ask(f"{cards}.map(e => [...({SEEN})(e), e.title])")
    assert [title for _, _, title in sorted(seen)] == [
        "mean, with 95 % interval",
        "mean, min to max",
        "difference to the base model, with 95 % interval",
        "difference to the best earlier step, interval corrected for picking it",
        "mean of each category",
        *("mean, with 95 % interval", "mean, min to max") * 2,
    ]
    assert min(seen)[0] < 200
    assert page.ask("texts('.heading .prefix-name, .heading .category-name, button.heading')")[0:1]
    assert colours(page, tmp_path / "custom_scalars.png") > 100


def test_images_show_prompt_and_score(server: Server, page: Page, tmp_path: Path) -> None:
    """Above each image stands its prompt, below it its score."""
    page.open(address(server, "images"))
    images = "everywhere('#main-image-container img')"
    page.until(f"{images}.length == 8 && {images}.every(e => e.complete && e.naturalWidth)")
    headings = page.ask("texts('figcaption')")
    assert {f"{kind} of the kind <0>" for kind in CATEGORIES} <= {
        heading.splitlines()[0] for heading in headings
    }
    assert page.ask(f"{images}.map(e => [e.naturalWidth, e.naturalHeight])") == [[64, 48 + 15]] * 8
    box = "e => [e.getBoundingClientRect()].map(b => [b.left, b.top, b.right, b.bottom])[0]"
    left, top, right, bottom = page.ask(f"{images}.map({box})[0]")
    strip = (left, top + (bottom - top) * 48 / 63, right, bottom)
    below = shot(page, tmp_path / "images.png").crop(tuple(map(round, strip))).convert("L")
    values = below.tobytes()
    assert min(values) < 100
    assert max(values) > 200


def test_the_documented_link_pins_the_mean(server: Server, page: Page, tmp_path: Path) -> None:
    """The address in docs/trackers.md shows the mean above all else, without smoothing."""
    docs = ROOT / "docs" / "trackers.md"
    (link,) = re.findall(r"^http://localhost:6006/(\S+)$", docs.read_text(), re.MULTILINE)
    page.open(f"http://127.0.0.1:{server.port}/{link}")
    pinned = "texts('metrics-pinned-view card-view')"
    page.until(f"{pinned}.some(text => text.includes('Value'))")
    (card,) = page.ask(pinned)
    assert card.replace("\n", "").startswith("clip/mean")
    assert "Smoothed" not in card
    page.screenshot(tmp_path / "pinned.png")


def headings(page: Page, chart: str) -> list[str]:
    """Return the tags above the charts of a kind, each of which has lines or areas; no errors."""
    drawn = f"everywhere('{chart}').map(e => everywhere('path', e.shadowRoot).length)"
    page.until(f"(d => d.length && d.every(n => n))({drawn})")
    assert [it["method"] for it in page.events if it["method"] == "Runtime.exceptionThrown"] == []
    tags: list[str] = page.ask("everywhere('tf-card-heading').map(e => e.tag)")
    return tags


@pytest.mark.parametrize(
    ("tab", "chart"),
    [("histograms", "vz-histogram-timeseries"), ("distributions", "vz-distribution-chart")],
)
def test_the_spread_of_the_prompts_is_drawn(
    server: Server, page: Page, tmp_path: Path, tab: str, chart: str
) -> None:
    """One chart, of our run, with a shape for each checkpoint."""
    page.events.clear()
    page.open(address(server, tab))
    assert headings(page, chart) == ["clipwatch/histogram"]
    assert page.ask("everywhere('tf-card-heading').map(e => e.run)") == ["training/clipwatch"]
    assert colours(page, tmp_path / f"{tab}.png") > 20


def test_the_scalars_tab_finds_ours(server: Server, page: Page, tmp_path: Path) -> None:
    """The filter in docs/trackers.md shows the four cards of `clip`, each with its lines."""
    docs = ROOT / "docs" / "trackers.md"
    (words,) = re.findall(r"the filter `(\S+)`", docs.read_text())
    page.events.clear()
    page.open(address(server, f"scalars&tagFilter={quote(words)}"), height=1000)
    page.until("everywhere('vz-line-chart2').length >= 4")
    found = headings(page, "vz-line-chart2")
    assert found[:4] == ["clip/max", "clip/mean", "clip/min", "clip/std"]
    assert colours(page, tmp_path / "scalars.png") > 20


def test_the_protocol_is_on_the_hparams_page(server: Server, page: Page, tmp_path: Path) -> None:
    """A line for our run, with what it was sampled with and its numbers; all can be chosen."""
    page.events.clear()
    page.open(address(server, "hparams"), height=1000)
    cells = "texts('vaadin-grid-cell-content').filter(text => text)"
    page.until(f"{cells}.includes('training/clipwatch')")
    shown = page.ask(cells)
    heads = shown[: shown.index("training/clipwatch")]
    line = dict(zip(["name", *heads[2:]], shown[len(heads) :], strict=True))
    assert {"adapter_strength", "guidance", "clip/mean"} <= line.keys()
    assert (line["guidance"], line["adapter_strength"]) == ("5.0000", "1.0000")
    mean = server.points("training/clipwatch", "clip/mean")[-1][1]
    assert float(line["clip/mean"]) == pytest.approx(mean, abs=1e-4)
    known = {"scheduler", "inference_steps", "scorer", "prompts", "protocol"}
    assert known <= set(page.ask("texts('paper-checkbox')"))
    assert [it["method"] for it in page.events if it["method"] == "Runtime.exceptionThrown"] == []
    page.screenshot(tmp_path / "hparams.png")
