"""The page while it is served: made anew when the log has something new, and not too often."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from clipwatch.domain.state import Run
from clipwatch.domain.voting import Image
from clipwatch.journal import Journal, log_file
from clipwatch.report.cells import Cells, empty, not_kept, rows_of
from clipwatch.report.curves import Curve, curves_of, runs_of
from clipwatch.report.data import page_data
from clipwatch.report.page import assembled, policy
from clipwatch.results.named import present
from clipwatch.results.reading import images_of
from clipwatch.results.results import Results, open_results
from clipwatch.results.voting import entrants

PAUSE_SECONDS: Final = 1.0
"""Between two looks at the log."""

SHARE: Final = 0.1
"""The most of a core's time that goes into making the page: that grows with prompts and results."""

WAITING: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<title>clipwatch report</title>
<p>Nothing is scored yet. The first result is shown here when it is there.</p>
</html>
"""

NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Ballot:
    """What can be voted on of a run: the texts of prompts by id, and files of images."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Mapping[Image, Path]] = field(default_factory=dict)
    """By evaluation."""


@dataclass(frozen=True, slots=True)
class Made:
    """The page as the log has it.

    Attributes:
        page: All of it; `policy` is what a browser may do with it.
        data: What a page that is open needs to show the same.
        version: By which that is known again, "" where nothing is scored.
        images: By the address that the page has of each, its file.
        ballots: By run.
    """

    page: bytes = WAITING.encode()
    policy: str = NOTHING
    data: bytes = b""
    version: str = ""
    images: Mapping[str, Path] = field(default_factory=dict)
    ballots: Mapping[str, Ballot] = field(default_factory=dict)


def _silent(_: str) -> None:
    """Tell nobody."""


class Live:
    """Keeps the page; one thread looks, any may read `made`.

    Args:
        state_dir: The folder of the log and the images.
        runs: Names of those that are shown, or their beginnings; none for those with the newest
            results.
        told: Hears what is done now, the first time.

    Attributes:
        left_out: Which runs the page lacks, in a sentence; "" for none.
    """

    def __init__(self, state_dir: Path, runs: Sequence[str], told: Callable[[str], None]) -> None:
        self.log = log_file(state_dir)
        self.token = secrets.token_urlsafe(16)
        self.made: Made | None = None
        self.left_out = ""
        self._state_dir, self._runs, self._told = state_dir, runs, told
        self._seq = -1

    def look(self) -> float:
        """Make the page anew if the log has something new; return seconds until the next look.

        Raises:
            ClipwatchError: There is no such log or run, or it cannot be read.
        """
        began, seq = time.monotonic(), self._news()
        if self.made is not None and seq == self._seq:
            return PAUSE_SECONDS
        with open_results(self.log) as results:
            self.made = self._make(results)
        self._seq = seq
        return max(PAUSE_SECONDS, (time.monotonic() - began) / SHARE)

    def _news(self) -> int:
        if not self.log.exists():
            return -1
        with Journal(self.log, read_only=True) as journal:
            return journal.news()

    def _make(self, results: Results) -> Made:
        known, self.left_out = runs_of(results.state, self._runs)
        runs = {it.name: it for it in known}
        if self._runs:
            self._runs = [*runs]  # whose beginnings others may have later
        curves = [curve for it in runs.values() for curve in curves_of(it)]
        if not curves:
            return Made()
        return self._page(results, curves, runs)

    def _page(self, results: Results, curves: Sequence[Curve], runs: Mapping[str, Run]) -> Made:
        data = page_data(results, curves, self._told)
        self._told = _silent  # nobody waits for it from now on
        data["images"] = "images/", "", ""
        cells: list[Cells] = []
        images: dict[str, Path] = {}
        for number, (curve, it) in enumerate(zip(curves, data["curves"], strict=True)):
            cells.append([] if "like" in it else self._cells(results, curve, it, number, images))
        ballots = {name: self._ballot(results, run, images) for name, run in runs.items()}
        told = msgspec.json.encode([data, self.token])
        version = hashlib.sha256(told).hexdigest()[:16]
        data["live"] = {"token": self.token, "version": version}
        page = assembled(data, cells).encode()
        fresh = msgspec.json.encode({"data": data, "images": cells})
        return Made(page, policy(data), fresh, version, images, ballots)

    def _cells(
        self,
        results: Results,
        curve: Curve,
        data: dict[str, Any],
        number: int,
        images: dict[str, Path],
    ) -> Cells:
        """Return the addresses of a curve's images, and put them down in `images`."""
        cells = empty(data)
        folder = images_of(self._state_dir, curve.run.name).resolve()
        rows = list(rows_of(results, curve, data, number, self._state_dir))
        for it in (it for row in rows for it in row.images):
            address = quote(f"{curve.run.name}/{it.path.relative_to(folder)}")
            cells[it.column][it.prompt][it.index] = address
            images[f"images/{address}"] = it.path
        data["left_out"] = not_kept(data, rows)
        return cells

    def _ballot(self, results: Results, run: Run, known: Mapping[str, Path]) -> Ballot:
        """Return what can be voted on of a run; files that are there are among the page's."""
        protocols = [it for it in present(run) if it in run.scored]
        prompts = {it.id: it.text for name in protocols for it in results.protocols[name].prompts}
        there = set(known.values())
        folder = images_of(self._state_dir, run.name).resolve()
        images = {}
        for evaluation in entrants(run, protocols):
            kept = {
                (it.prompt_id, it.index): folder / it.image
                for it in results.images(run, evaluation)
                if it.image and it.prompt_id in prompts
            }
            images[evaluation.id] = {it: path for it, path in kept.items() if path in there}
        return Ballot(prompts, images)
