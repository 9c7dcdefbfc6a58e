"""The statistics are right as often as they say, on scores whose truth is known."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

COVERAGE = ROOT / "benchmarks" / "coverage.py"


def share(part: str, runs: int) -> tuple[float, int]:
    """Run a part of the simulation; return its share in all worlds, and the number of runs."""
    done = subprocess.run(
        [sys.executable, COVERAGE, "--quick", "--runs", str(runs), part],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:]]
    total = sum(int(row[5]) for row in rows)
    return sum(float(row[6]) * int(row[5]) for row in rows) / total, total


@pytest.mark.parametrize(
    ("part", "least", "most", "runs"),
    [
        ("interval", 0.93, 0.97, 600),
        ("difference", 0.93, 0.97, 1200),
        ("identical", 0.0, 0.05, 1200),
        ("detectable", 0.75, 0.85, 1200),
        ("best", 0.0, 0.05, 140),
        ("differences", 0.95, 1.0, 280),
        ("candidates", 0.95, 1.0, 160),
        ("picked", 0.93, 0.97, 2400),
        ("before", 0.93, 0.97, 2400),
        ("sequence", 0.95, 1.0, 200),
        ("student", 0.0, 0.9, 200),
    ],
)
@pytest.mark.thorough
def test_share(part: str, least: float, most: float, runs: int) -> None:
    """The share is in its bounds, but for three standard errors of so many runs."""
    found, count = share(part, runs)
    low, high = (3 * math.sqrt(bound * (1 - bound) / count) for bound in (least, most))
    assert least - low <= found <= most + high


@pytest.mark.thorough
def test_a_missed_figure_ends_with_an_error(tmp_path: Path) -> None:
    """A simulation whose figure is missed says so and ends with 1."""
    broken = tmp_path / "broken.py"
    broken.write_text(COVERAGE.read_text().replace("0.93, 0.97, covers)", "0.0, 0.1, covers)"))
    done = subprocess.run(
        [sys.executable, broken, "--quick", "--runs", "20", "interval"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "MISSED" in done.stdout


@pytest.mark.thorough
def test_decisions_are_as_few_and_as_right_as_told() -> None:
    """Twenty of each kind: the least prompts tell large differences, all tables have their rows."""
    done = subprocess.run(
        [sys.executable, COVERAGE.with_name("decisions.py"), "--quick", "--seed", "1"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    stops = [row for row in rows if len(row) == 13 and row[0] in ("normal", "skewed")]
    large = [row for row in stops if row[:2] == ["normal", "0.025"] and row[3] == "0.04"]
    assert [row[5] for row in large] == ["32"] * 3
    assert sum(float(row[11]) for row in stops) / len(stops) < 0.05
    assert len([row for row in rows if row[:1] in (["flat"], ["rises by .05"])]) == 4


def test_the_simulation_stops_where_an_evaluation_does() -> None:
    """All at once it is what is said prompt by prompt, after as many prompts."""
    script = (
        "import decisions as it, numpy as np\n"
        "from clipwatch.statistics.anytime import Differing\n"
        "luck, names = np.random.default_rng(3), [str(n) for n in range(it.PROMPTS)]\n"
        "for delta in (0, 0.003, 0.005, 0.01, 0.03):\n"
        "    values = delta + 0.02 * luck.normal(size=it.PROMPTS)\n"
        "    one = Differing(1, dict.fromkeys(names, 0.0), it.WORTH)\n"
        "    one.add((name, 0, x) for name, x in zip(names, values.tolist()))\n"
        "    print((one.difference.prompts, one.known) == (it.seen(values).prompts,"
        " it.seen(values).known))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=COVERAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True"] * 5
