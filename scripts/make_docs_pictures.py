"""Write the pictures of README and docs: run the demo and look at it in a browser.

    python scripts/make_docs_pictures.py [--demo DIR]

Takes some minutes, and a Chromium (chromium-headless-shell). With --demo a demo that has ended in
that folder is shown instead of a new one. Run it again when the page or what TensorBoard is told
looks otherwise than in the pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Page, browse, program  # noqa: E402 - the tests' own
from tensorboard_kit import Server, tensorboard, until  # noqa: E402
from trackio_kit import dashboard  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"

LARGEST = 150_000
"""Bytes of a picture."""

DESK, PHONE = (1200, 860), (400, 860)
"""Width and height of the windows."""

DRAWING_SECONDS = 4
"""TensorBoard's lines, which come from a worker, tell nobody when they are there."""

DRAWN = "document.querySelectorAll('.cell img').length > 8"


def main() -> int:
    """Write them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="the folder of a demo that has ended")
    asked = parser.parse_args()
    if (binary := program()) is None:
        print("no browser; Debian has chromium-headless-shell", file=sys.stderr)
        return 1
    with TemporaryDirectory() as scratch, browse(binary) as page:
        work = Path(scratch)
        demo = (asked.demo or work / "demo").absolute()
        clipwatch = [sys.executable, "-m", "clipwatch"]
        if not asked.demo:
            subprocess.run([*clipwatch, "demo", "--directory", demo], check=True)
        report = work / "report.html"
        made = [*clipwatch, "report", "-o", report, "--state-dir", demo / "state"]
        subprocess.run(made, check=True)
        for name in of_report(page, report):
            keep(page, name, work)
        of_trackio(page, demo, work)
        os.chdir(demo)  # TensorBoard shows its folder, which is to be nobody's
        with tensorboard(Path(), ["--logdir", "output/logs"], work) as server:
            for name in of_tensorboard(page, server):
                keep(page, name, work)
    return 0


def of_report(page: Page, report: Path) -> Iterator[str]:
    """Show the page in each way that has a picture, and yield the picture's name."""

    def show(size: tuple[int, int], top: str) -> None:
        page.open(report.as_uri(), *size)
        page.until(DRAWN)
        page.ask(f"document.getElementById('{top}').scrollIntoView()")
        page.until(f"{DRAWN} && [...document.querySelectorAll('.cell img')].every(e => e.complete)")

    show(DESK, "verdict-head")
    yield "report"
    show(DESK, "gallery")
    yield "report-images"
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    show(DESK, "explore")
    yield "report-dark"
    page.call("Emulation.setEmulatedMedia", features=[])
    show(PHONE, "gallery")
    yield "report-phone"


def of_tensorboard(page: Page, server: Server) -> Iterator[str]:
    """Show TensorBoard's pages that have a picture, and yield the picture's name."""
    until(lambda: len(server.get("plugin/scalars/tags") or ()) > 1, expected=True)
    for name, tab, drawn in (
        ("tensorboard", "timeseries", "texts('card-view').filter(t => t.includes('Value'))[1]"),
        ("tensorboard-images", "images", "everywhere('#main-image-container img')[3]?.complete"),
    ):
        page.open(f"http://127.0.0.1:{server.port}/?smoothing=0#{tab}", *DESK)
        page.until(drawn)
        page.ask("everywhere('button').find(it => it.ariaLabel == 'Close side pane')?.click()")
        time.sleep(DRAWING_SECONDS)
        yield name


def of_trackio(page: Page, demo: Path, work: Path) -> None:
    """Publish to Trackio, and keep the picture of its dashboard."""
    store = work / "trackio"
    publish = [sys.executable, "-m", "clipwatch", "publish", "--to", "trackio"]
    subprocess.run(
        [*publish, "--state-dir", demo / "state"],
        env=os.environ | {"TRACKIO_DIR": str(store)},
        check=True,
    )
    with dashboard(store, work) as shown:
        query = "project=demo&smoothing=0&metric_filter=%5Eclip&plots_per_row=2"
        page.open(f"{shown.address}?{query}", *DESK)
        page.until("document.querySelectorAll('.vega-embed canvas').length > 2")
        time.sleep(DRAWING_SECONDS)
        keep(page, "trackio", work)


def keep(page: Page, name: str, work: Path) -> None:
    """Write what the window shows as WebP, as well as it fits."""
    page.ask("document.fonts.ready.then(() => 1)")
    page.screenshot(work / "shot.png")
    with Image.open(work / "shot.png") as shot:
        for quality in range(90, 20, -5):
            data = io.BytesIO()
            shot.convert("RGB").save(data, "WEBP", quality=quality, method=6)
            if data.tell() <= LARGEST:
                break
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.webp").write_bytes(data.getvalue())
    print(f"docs/pictures/{name}.webp: {data.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
