"""What all benchmarks share: runs that take turns, ratios with their spread, one table."""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import torch

from clipwatch.evaluator.quiet import quiet

PACKAGES: Final = ("torch", "diffusers", "transformers", "peft", "pillow", "numpy")
HEADER: Final = ("what", "peer", "peer, s", "clipwatch, s", "ratio (lowest to highest)", "figure")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach, a ratio of seconds.

    Attributes:
        bound: The ratio.
        faster: The peer's seconds over ours have to be at least `bound`; otherwise ours over the
            peer's at most `bound`.
    """

    bound: float
    faster: bool = True

    def ratio(self, ours: float, peer: float) -> float:
        """Return the ratio that the figure speaks of."""
        return peer / ours if self.faster else ours / peer

    def verdict(self, ratio: float) -> str:
        """Say whether a ratio reaches the figure."""
        met = ratio >= self.bound if self.faster else ratio <= self.bound
        return f"{'>=' if self.faster else '<='} {self.bound:g} x, {'met' if met else 'NOT met'}"


@dataclass(frozen=True, slots=True)
class Row:
    """Ours against one peer, round by round.

    Attributes:
        ours, peer: Seconds of each round, in the order they were run; equally many.
        faster: Without a goal: which way the ratio is read, as in Goal.
        goal: None where there is no figure to reach.
    """

    what: str
    against: str
    ours: Sequence[float]
    peer: Sequence[float]
    goal: Goal | None = None
    faster: bool = True

    def cells(self) -> tuple[str, ...]:
        """Return what stands in the table, in the order of HEADER."""
        read = self.goal or Goal(1.0, faster=self.faster)
        ratios = [read.ratio(*pair) for pair in zip(self.ours, self.peer, strict=True)]
        middle = statistics.median(ratios)
        seconds = (f"{statistics.median(found):.4g}" for found in (self.peer, self.ours))
        spread = f"{middle:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        return (
            (self.what, self.against, *seconds, spread, self.goal.verdict(middle))
            if self.goal
            else (self.what, self.against, *seconds, spread, "-")
        )


def take_turns(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    settle: Callable[[], None],
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Run the candidates one after the other, again and again; return the seconds of each run.

    What else the machine does then falls on all of them alike. With `warm_up` there is one more
    round, the first, which is not counted. `settle` waits until the device has done its work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + warm_up):
        for name, run in candidates.items():
            settle()
            started = time.perf_counter()
            run()
            settle()
            if turn or not warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def settle(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def show(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print a table in Markdown, and notes below it."""
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    print(f"\n## {title}\n", lines[0], rule, *lines[1:], sep="\n")
    if notes:
        print("", *(f"- {note}" for note in notes), sep="\n", flush=True)


def begin(device: str, threads: int | None) -> None:
    """Silence the libraries, set torch's threads, and say on what is measured."""
    quiet()
    if threads:
        torch.set_num_threads(threads)
    print(_surroundings(device), flush=True)


def _surroundings(device: str) -> str:
    """Say on what the figures were measured: processor, cores, threads, versions."""
    found = [f"{package} {version(package)}" for package in PACKAGES]
    where = [f"{_processor()}, {psutil.cpu_count()} cores, {torch.get_num_threads()} threads"]
    if device.startswith("cuda"):
        where.append(torch.cuda.get_device_name(device))
    return "\n".join([*where, f"Python {platform.python_version()}, {', '.join(found)}"])


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def check_agreement(what: str, ours: Sequence[float], peer: Sequence[float], limit: float) -> str:
    """Say by how much two lists of cosines differ at most.

    Raises:
        SystemExit: By more than `limit`, or they are not equally many: then the peers do not do
            the same work, and their times say nothing.
    """
    if len(ours) != len(peer):
        sys.exit(f"{what}: {len(ours)} cosines of clipwatch, {len(peer)} of the peer")
    worst = float(np.abs(np.subtract(ours, peer)).max())
    if not worst <= limit:  # NaN is no agreement
        sys.exit(f"{what}: cosines differ by {worst:.2g}, more than {limit:g}")
    return f"{what}: {len(ours)} cosines, largest difference {worst:.1e}"


def options(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, seconds rather than minutes"
    )
    parser.add_argument("--rounds", type=int, default=0, help="counted rounds (default 5, quick 2)")
    parser.add_argument("--device", default="cpu", help="a torch device (default cpu)")
    parser.add_argument("--threads", type=int, help="of torch on the CPU (default: its own choice)")
    parser.add_argument("--folder", type=Path, help="keep the models made here for the next run")
    return parser


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """Yield a folder for models: the one given, which is kept, or one that goes in the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    made = Path(tempfile.mkdtemp(prefix="clipwatch-benchmark-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)
