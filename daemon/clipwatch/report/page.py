"""The page as one file: everything is in it, and a browser is told to ask nobody for more."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from clipwatch import __version__
from clipwatch.kit.errors import ClipwatchError
from clipwatch.report.cells import Cells, Row, empty, not_kept, rows_of
from clipwatch.report.curves import Curve
from clipwatch.report.data import page_data
from clipwatch.report.images import SIZES, SMALL, all_encoded, size_for
from clipwatch.results.figures import plural
from clipwatch.results.results import Results

SCRIPTS: Final = (
    *("state.js", "chart.js", "front.js", "axes.js", "gallery.js"),
    *("save.js", "viewer.js", "pair.js", "asked.js"),
)
LIBRARY: Final = "uplot/uPlot.iife.min.js"
LIVE: Final = ("votes.js", "live.js")
LAST: Final = "page.js"
"""Begins to show what the others can."""

WHOLE: Final = "This page is one file and asks no other machine for anything."
SERVED: Final = "This page asks this machine alone, and new results arrive by themselves."
MEGABYTE: Final = 1_000_000

Told = Callable[[str], None]


def write_report(
    results: Results,
    curves: Sequence[Curve],
    state_dir: Path,
    output: Path,
    *,
    assets: Path | None,
    largest: int,
    told: Told,
) -> list[str]:
    """Write the page, as a whole or not at all, and return what was left out of it, in sentences.

    Args:
        results: What it shows.
        curves: Which of them.
        state_dir: Where the images are kept.
        output: The page's file.
        assets: The folder for the images; None to put them into the page.
        largest: Bytes that the page has at most.
        told: Hears what is done now.

    Raises:
        ClipwatchError: Even without images it is larger.
        JournalError: The log cannot be read.
        OSError: Something cannot be written.
    """
    whole = page_data(results, curves, told)
    whole["images"] = (
        (f"{quote(os.path.relpath(assets, output.parent))}/", ".webp", "-large.webp")
        if assets
        else ("data:image/webp;base64,", "", "")
    )
    # those by further scorers show the same images
    data = {n: it for n, it in enumerate(whole["curves"]) if "like" not in it}
    cells = [empty(it) if n in data else [] for n, it in enumerate(whole["curves"])]
    found = {n: list(rows_of(results, curves[n], it, n, state_dir)) for n, it in data.items()}
    missing = {n: not_kept(it, found[n]) for n, it in data.items()}
    rows = [row for turn in _in_turn([*found.values()]) for row in turn]
    omitted: dict[int, int] = {}
    if assets:
        _beside(rows, assets, cells, told)
    else:
        for n, it in data.items():  # the longest that may be said
            it["left_out"] = f"{_omitted(len(it['prompts']))} {missing[n]}"
        omitted = _within(rows, largest - len(assembled(whole, cells).encode()), cells, told)
    for n, it in data.items():
        it["left_out"] = " ".join(filter(None, (_omitted(omitted.get(n, 0)), missing[n])))
    page = assembled(whole, cells).encode()
    if len(page) > largest:
        raise ClipwatchError(
            f"the page takes {len(page) / MEGABYTE:.1f} MB without any image",
            fix=f"use --max-size {-(-len(page) // MEGABYTE)}, or name fewer runs",
        )
    fresh = output.with_name(f".{output.name}.new")
    fresh.write_bytes(page)
    fresh.replace(output)
    return list(dict.fromkeys(filter(None, (it["left_out"] for it in data.values()))))


def _in_turn(found: Sequence[Sequence[Row]]) -> Iterator[list[Row]]:
    """Yield the first prompt of each curve, then the second: no curve goes without images."""
    for place in range(max(map(len, found), default=0)):
        yield [rows[place] for rows in found if place < len(rows)]


def _omitted(prompts: int) -> str:
    if not prompts:
        return ""
    return f"The images of {plural(prompts, 'prompt')} are left out for --max-size."


def _within(rows: Sequence[Row], room: int, cells: Sequence[Cells], told: Told) -> dict[int, int]:
    """Put images into the cells until the room is used, and return how many prompts went without.

    Returns:
        By the number of the curve.
    """
    paths = [it.path for row in rows for it in row.images]
    size = size_for(paths, room)
    left: dict[int, int] = {}
    made = all_encoded(paths, size)
    count = 0
    full = False
    for row in rows:
        if full:
            left[row.curve] = left.get(row.curve, 0) + 1
            continue
        texts = [base64.b64encode(next(made) or b"").decode() for _ in row.images]
        count += len(texts)
        told(f"images: {count} of {len(paths)}")
        if sum(len(it) for it in texts) > room:
            full = True
            left[row.curve] = left.get(row.curve, 0) + 1
            continue
        for image, text in zip(row.images, texts, strict=True):
            cells[row.curve][image.column][image.prompt][image.index] = text or None
            room -= len(text)
    made.close()
    return left


def _beside(rows: Sequence[Row], assets: Path, cells: Sequence[Cells], told: Told) -> None:
    """Write each image as two files, a small and a large one, and put their names into cells."""
    images = [(row.curve, it) for row in rows for it in row.images]
    for end, size in (("", SMALL), ("-large", SIZES[0])):
        made = all_encoded([it.path for _, it in images], size)
        for place, ((curve, image), data) in enumerate(zip(images, made, strict=True)):
            told(f"images: {place + 1} of {len(images)}, {'large' if end else 'small'}")
            if data is None:
                continue
            name = f"{curve}/{image.column}/{image.prompt}-{image.index}"
            path = assets / f"{name}{end}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            cells[curve][image.column][image.prompt][image.index] = name


def assembled(data: dict[str, Any], cells: Sequence[Cells]) -> str:
    """Put the parts together.

    Args:
        data: Of `page_data`; with "images", which stand before an image's cell in its address, and
            behind that of a small and of a large one; and with "live" if the page is served.
        cells: Of each curve.
    """
    texts = [
        f'<script type="application/json" id="images-{place}">{_json(it)}</script>'
        for place, it in enumerate(cells)
    ]
    parts = {
        "policy": policy(data),
        "style": _style(),
        "version": __version__,
        "footer": SERVED if "live" in data else WHOLE,
        "data": _json(data),
        "images": "\n".join((*texts, f"<script>{_part(LIBRARY)}</script>")),
        "script": _script(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def policy(data: dict[str, Any]) -> str:
    """Return what a browser may do with the page; scripts and styles are named by their content."""
    served = "live" in data
    whole = data["images"][0].startswith("data:")
    asks = "'self'" if served else "'none'"
    images = "data:" if whole else "'self'" if served else "'self' file:"
    return (
        f"default-src 'none'; script-src {_hash(_part(LIBRARY))} {_hash(_script(data))}; "
        f"style-src {_hash(_style())}; img-src {images}; connect-src {asks}; "
        "base-uri 'none'; form-action 'none'"
    )


def _style() -> str:
    return _part("uplot/uPlot.min.css") + _part("page.css")


def _script(data: dict[str, Any]) -> str:
    names = (*SCRIPTS, *(LIVE if "live" in data else ()), LAST)
    return "\n".join(("(() => {", *map(_part, names), "})();"))


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: object) -> str:
    """Write JSON in which no sign can end a script element."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
