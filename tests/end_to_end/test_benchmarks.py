"""The benchmarks run, and peers that are compared do the same work; no clock is looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from places import ROOT

BENCHMARKS = ROOT / "benchmarks"


def run(name: str, *arguments: str) -> str:
    """Run a benchmark on one thread in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--quick", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(printed: str) -> list[list[str]]:
    """Return the cells of the tables' rows, their headers and rules left out."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in found if row[0] != "what"]


@pytest.mark.parametrize(
    ("name", "compared", "agreements"),
    [
        (
            "scoring",
            [
                ("an image", "in-loop"),
                ("an image", "resident"),
                ("an image, new texts", "in-loop"),
                ("an image, new texts", "resident"),
            ],
            {"in-loop": 2, "resident": 8},
        ),
        (
            "evaluation",
            [
                ("evaluation", "the limit"),
                ("evaluation", "naive"),
                ("the limit", "itself, run again"),
            ],
            {"naive": 4},
        ),
        (
            "checkpoints",
            [
                ("full", "cold load, new process"),
                ("full", "cold load, same process"),
                ("lora", "cold load, new process"),
                ("lora", "cold load, same process"),
            ],
            {
                "full, checkpoint 1": 1,
                "full, checkpoint 2": 1,
                "lora, checkpoint 1": 1,
                "lora, checkpoint 2": 1,
            },
        ),
    ],
)
@pytest.mark.thorough
def test_a_benchmark_prints_ratios_of_peers_that_agree(
    name: str, compared: list[tuple[str, str]], agreements: dict[str, int]
) -> None:
    """Every peer has its row with a positive ratio, and all cosines of peers were compared."""
    printed = run(name, "--rounds", "1")
    found = rows(printed)
    assert [(row[0], row[1]) for row in found] == compared
    ratio = re.compile(r"([\d.e+-]+) \(([\d.e+-]+) to ([\d.e+-]+)\)")
    for row in found:
        read = ratio.fullmatch(row[4])
        assert read, row
        assert 0 < float(read[2]) <= float(read[1]) <= float(read[3])
    said = re.findall(r"^- (.+): (\d+) cosines, largest difference", printed, re.MULTILINE)
    assert {who: int(count) for who, count in said} == agreements


@pytest.mark.thorough
def test_peers_that_disagree_are_no_comparison() -> None:
    """Another number, a missing number and NaN end a benchmark with a line that says whose."""
    script = (
        "import sys, common\n"
        "for ours in ([0.3], [0.3, 0.2, 0.1], [0.3, float('nan')]):\n"
        "    try: common.check_agreement('naive', ours, [0.3, 0.2], 1e-3)\n"
        "    except SystemExit as error: print(error)\n"
        "print(common.check_agreement('naive', [0.3, 0.2005], [0.3, 0.2], 1e-3))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "naive: 1 cosines of clipwatch, 2 of the peer",
        "naive: 3 cosines of clipwatch, 2 of the peer",
        "naive: cosines differ by nan, more than 0.001",
        "naive: 2 cosines, largest difference 5.0e-04",
    ]


@pytest.mark.thorough
@pytest.mark.timeout(400)  # its hours take a minute, beside whatever else runs
def test_a_soak_of_three_hours_loses_and_doubles_nothing() -> None:
    """Amid outages, reloads and failures; what it measures is all there."""
    printed = run("soak")
    assert "each in TensorBoard and W&B, once" in printed
    assert [row[0] for row in rows(printed) if "median" not in row[0]] == [
        "memory of the daemon, MiB",
        "of the judge, MiB",
        "descriptors, the least",
        "threads, the least",
        "files, the least",
        "log, bytes a result",
        "a turn, ms",
        "99 % of the turns, ms",
    ]


@pytest.mark.thorough
def test_many_runs_are_measured() -> None:
    """All are evaluated in one daemon, which is asked for its pages, and none is far ahead."""
    found = {row[0]: row[1] for row in rows(run("many_runs"))}
    assert found["3 configurations found, read and taken on"]
    assert found["6 evaluations without models"]
    assert int(found["results by which any run was ahead of the last"]) <= 2
    assert "file descriptors" in found["held while idle"]


@pytest.mark.thorough
def test_copies_are_told_from_fresh_pictures() -> None:
    """Nearly always where the model sees the copy; fresh ones are hardly ever told."""
    found = [row for row in rows(run("copied")) if row[0] not in {"copies", "world"}]
    areas = {row[0]: [float(it) for it in row[1:]] for row in found if len(row) == 5}
    assert len(areas) == 10
    assert min(areas["JPEG of quality 50"][2:]) > 0.95
    told = [row for row in found if len(row) > 5]
    assert len(told) == 4 * 2
    assert all(float(row[6]) <= 0.2 for row in told)
    assert all(float(row[-1]) >= 0.5 for row in told if row[:3:2] == ["patches", "50"])


@pytest.mark.thorough
def test_padding_moves_numbers_and_clipwatch_does_not_pad() -> None:
    """In float32 by rounding alone, more in bfloat16; in another order ours are the same."""
    found = {row[0]: row for row in rows(run("vision_language")) if row[0] != "dtype"}
    assert {*found} == {"float32", "bfloat16"}
    assert float(found["float32"][-1]) < 1e-4 < float(found["bfloat16"][-1])
    assert all(float(it) > 0 for row in found.values() for it in row[2:5])


@pytest.mark.thorough
def test_answers_to_questions_are_measured() -> None:
    """How often intervals hold, and what log and state have of answers."""
    found = {row[0]: row[1:] for row in rows(run("questions"))}
    assert float(found["of prompts, as told"][0].rstrip(" %")) > 50
    without, with_ = (found[f"{it} answers"] for it in ("without", "with"))
    assert int(with_[0]) >= int(without[0])


@pytest.mark.thorough
def test_the_log_of_a_year_is_measured() -> None:
    """What a start, a command, a backup and compacting take, before it is compacted and after."""
    found = {row[0]: row[1:] for row in rows(run("log"))}
    assert found["5 runs of 2 checkpoints of 20 images"][0].startswith("90 events, ")
    assert found["compact"][1].startswith("90 events to ")
    starts = [it for it in found if it.startswith("start")]
    assert len(starts) == 3
    assert all(f"compacted: {it}" in found for it in starts)


@pytest.mark.thorough
@pytest.mark.timeout(400)  # beside whatever else runs
def test_how_far_it_goes_is_measured() -> None:
    """Each part has its rows; a daemon that fails to score something would end it."""
    found = {
        row[0]: row[1] for row in rows(run("scale", "strong", "weak", "events", "turns", "year"))
    }
    assert {it.partition(":")[0] for it in found} == {"strong", "weak", "events", "turns", "year"}
    assert "x one" in found["strong: 64 images of 5 ms, 2 slots"]
    assert "x one" in found["weak: 2 checkpoints of 16 images, 2 slots"]
    assert "a second" in found["events: 64 workers, 64 runs, as many as can be"]
    assert "2 requests" in found["turns: 100 prompts dealt to 2 slots"]
    assert "a second" in found["turns: 10 checkpoints that wait, one slot"]


@pytest.mark.thorough
def test_overfitting_is_told_where_it_is() -> None:
    """In trainings whose truth is known; never of one that is flat."""
    found = {row[0]: row for row in rows(run("holdout", "--only", "simulated"))}
    assert found["flat"][1] == found["flat"][3] == "0 %"
    assert found["overfits by 10 % (true)"][3] == "100 %"


@pytest.mark.thorough
def test_the_lowest_loss_is_among_those_that_cannot_be_told_apart() -> None:
    """In trainings whose truth is known; of equal ones none is told from another."""
    found = {row[0]: row for row in rows(run("lowest_loss"))}
    assert found["flat: an equal one is told from it"][1] == "0%"
    for name in ("both fall by a tenth", "overfits by 10 %"):
        assert found[name][3] == found[name][5] == "100%"
        assert 1 <= float(found[name][6]) < 20
