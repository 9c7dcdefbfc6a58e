"""Write the pictures of README and docs: run the demo and look at it in a browser.

    python scripts/make_docs_pictures.py [--demo DIR] [--only report|tensorboard|mlflow]

Takes some minutes, and a Chromium (chromium-headless-shell). With --demo a demo that has ended in
that folder is shown instead of a new one; with --only, which may be repeated, some of the pictures
are made. Run it again when the page or what a tracker is told looks otherwise than in the pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import mlflow_kit  # noqa: E402 - the tests' own
from browser import Page, browse, program  # noqa: E402
from tensorboard_kit import tensorboard, until  # noqa: E402
from trackio_kit import dashboard  # noqa: E402

CLIPWATCH = [sys.executable, "-m", "clipwatch"]
PICTURES = ROOT / "docs" / "pictures"

LARGEST = 150_000
"""Bytes of a picture."""

DESK, TALL, PHONE = (1200, 860), (1200, 1000), (400, 860)
"""Width and height of the windows."""

DRAWING_SECONDS = 4
"""TensorBoard's lines, which come from a worker, tell nobody when they are there."""

TO_LAST = """
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(it, '1000000');
it.dispatchEvent(new Event('input', {bubbles: true}));
it.dispatchEvent(new FocusEvent('focusout', {bubbles: true}));
"""
"""Moves a slider of MLflow's by its field towards the demo's last step, by one that it has."""

DRAWN = "document.querySelectorAll('.cell img').length > 8"


def main() -> int:
    """Write them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="the folder of a demo that has ended")
    parser.add_argument("--only", action="append", choices=SHOWN, help="make these alone")
    asked = parser.parse_args()
    if (binary := program()) is None:
        print("no browser; Debian has chromium-headless-shell", file=sys.stderr)
        return 1
    with TemporaryDirectory() as scratch, browse(binary) as page:
        work = Path(scratch)
        demo = (asked.demo or work / "demo").absolute()
        if not asked.demo:
            subprocess.run([*CLIPWATCH, "demo", "--directory", demo], check=True)
        for group in asked.only or SHOWN:
            for name in SHOWN[group](page, demo, work):
                keep(page, name, work)
    return 0


def of_report(page: Page, demo: Path, work: Path) -> Iterator[str]:
    """Show the page in each way that has a picture, and yield the picture's name."""
    report = work / "report.html"
    made: list[str | Path] = [*CLIPWATCH, "report", "-o", report, "--state-dir", demo / "state"]
    subprocess.run(made, check=True)

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


def of_tensorboard(page: Page, demo: Path, work: Path) -> Iterator[str]:
    """Show TensorBoard's pages that have a picture, and yield the picture's name."""
    os.chdir(demo)  # TensorBoard shows its folder, which is to be nobody's
    with tensorboard(Path(), ["--logdir", "output/logs"], work) as server:
        until(lambda: len(server.get("plugin/scalars/tags") or ()) > 1, expected=True)
        for name, tab, drawn in (
            ("tensorboard", "timeseries", "texts('card-view').filter(t => t.includes('Value'))[1]"),
            (
                "tensorboard-images",
                "images",
                "everywhere('#main-image-container img')[3]?.complete",
            ),
        ):
            page.open(f"http://127.0.0.1:{server.port}/?smoothing=0#{tab}", *DESK)
            page.until(drawn)
            page.ask("everywhere('button').find(it => it.ariaLabel == 'Close side pane')?.click()")
            time.sleep(DRAWING_SECONDS)
            yield name


def of_mlflow(page: Page, demo: Path, work: Path) -> Iterator[str]:
    """Publish to a server, show the run's pages that have a picture, and yield its name."""
    state = work / "state"
    shutil.copytree(
        demo / "state", state, dirs_exist_ok=True
    )  # the demo's own log is to know nothing of it
    (work / "mlflow").mkdir()
    with mlflow_kit.serve(work / "mlflow") as server:
        subprocess.run(
            [*CLIPWATCH, "publish", "--to", "mlflow", "--state-dir", state],
            check=True,
            cwd=work,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
        )
        (run,) = server.runs("demo")
        address = f"{server.url}/#/experiments/{run.told['info']['experiment_id']}/runs/{run.id}"
        page.open(f"{address}/model-metrics", *TALL)
        page.until("texts('button').includes('Auto-refresh')")
        page.until("everywhere('.js-plotly-plot .xtick').length > 8")
        page.ask("everywhere('button').find(it => it.ariaLabel == 'Close')?.click()")
        page.ask("everywhere('button').find(it => it.ariaLabel == 'Toggle sidebar')?.click()")
        # of the charts' tools, which a pointer makes visible, there is only the dark background
        page.ask(
            "document.head.append(Object.assign(document.createElement('style'),"
            "{textContent: '.modebar {display: none}'}))"
        )
        time.sleep(DRAWING_SECONDS)
        yield "mlflow"
        head = "everywhere('[class*=collapse-header]').filter(it => it.innerText.match({}))"
        page.ask(f"{head.format('/^ *clip +.4/')}.forEach(it => it.click())")
        page.ask(f"{head.format('/^ *clipwatch/')}[0].scrollIntoView()")
        page.until("everywhere('img').filter(it => it.src.includes('artifact')).length > 5")
        for _ in range(12):
            page.ask(f"everywhere('input[type=number]').forEach(it => {{ {TO_LAST} }})")
            time.sleep(0.2)
        page.ask(f"{head.format('/^ *clipwatch/')}[0].scrollIntoView()")
        time.sleep(DRAWING_SECONDS)
        yield "mlflow-images"


def of_trackio(page: Page, demo: Path, work: Path) -> Iterator[str]:
    """Publish to Trackio, show its dashboard, and yield the picture's name."""
    store = work / "trackio"
    state = work / "state"
    shutil.copytree(demo / "state", state, dirs_exist_ok=True)
    subprocess.run(
        [*CLIPWATCH, "publish", "--to", "trackio", "--state-dir", state],
        env=os.environ | {"TRACKIO_DIR": str(store)},
        check=True,
    )
    with dashboard(store, work) as shown:
        query = "project=demo&smoothing=0&metric_filter=%5Eclip&plots_per_row=2"
        page.open(f"{shown.address}?{query}", *DESK)
        page.until("document.querySelectorAll('.vega-embed canvas').length > 2")
        time.sleep(DRAWING_SECONDS)
        yield "trackio"


SHOWN = {
    "report": of_report,
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "trackio": of_trackio,
}
"""What has pictures: each shows one after the other, and yields its name."""


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
