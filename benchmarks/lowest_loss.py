"""Is the checkpoint with the lowest held-out loss found, and how many cannot be told from it?

    python benchmarks/lowest_loss.py [--quick] [--trainings N] [--images N]

Trainings of 20 checkpoints whose truth is known (those of holdout.py). `best --scorer loss` names
the lowest, those that cannot be told from it, and those among which the lowest in truth is with
95 % certainty. An image has a level of its own, and at each checkpoint a change of its own of 2 %.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from clipwatch.results.tables import loss_table
from clipwatch.statistics.best import best_of
from clipwatch.statistics.scale import LOSSES
from common import begin
from holdout import COURSES, Course, training

ASKED: Final = ("flat", "flat, wiggles 1 %", "both fall by a tenth", "overfits by 3 %")
ASKED_TOO: Final = "overfits by 10 %"
ALIKE: Final = 1e-9
"""Losses in truth that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is said of one training.

    Attributes:
        named: Whether the one that is named is the lowest in truth, or as low.
        tied, candidates: How many cannot be told from it, and may be the lowest, itself among them.
        in_tied, in_candidates: Whether the lowest in truth is among them.
        excess: By how much the true loss of the one that is named is above the lowest, of 1.
        apart: Some that are as low as the lowest were told from the one that is named.
    """

    named: bool
    tied: int
    candidates: int
    in_tied: bool
    in_candidates: bool
    excess: float
    apart: bool


def found(course: Course, images: int, seed: int) -> Found:
    """Look at all checkpoints of a training."""
    points = [*training(course, images, seed)]
    truth = {str(it.step): loss for it, loss in points}
    said = best_of({str(it.step): loss_table(it.losses) for it, _ in points}, LOSSES)
    lowest = min(truth.values())
    among = {said.best, *said.tied}
    equal = {it for it, loss in truth.items() if loss - lowest < ALIKE}
    return Found(
        truth[said.best] - lowest < ALIKE,
        len(among),
        len(said.candidates),
        not equal.isdisjoint(among),
        not equal.isdisjoint(said.candidates),
        truth[said.best] - lowest,
        said.best in equal and not equal <= among,
    )


def main() -> None:
    """Print a row for each kind of training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds rather than minutes")
    parser.add_argument("--trainings", type=int, default=0, help="of each kind (default 100)")
    parser.add_argument("--images", type=int, default=24, help="held out (default 24)")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    begin("cpu", asked.threads)
    started = time.monotonic()
    trainings = asked.trainings or (4 if asked.quick else 100)
    print(
        "\n| training | named is lowest | above the lowest | cannot be told: holds it | how many"
        " | may be lowest: holds it | how many |"
    )
    print("|---|---|---|---|---|---|---|")
    for course in COURSES:
        if course.name not in (*ASKED, ASKED_TOO):
            continue
        all_ = [found(course, asked.images, seed) for seed in range(trainings)]
        share = [
            fmean(cells)
            for cells in zip(
                *((it.named, it.in_tied, it.in_candidates) for it in all_), strict=True
            )
        ]
        excess = fmean(it.excess for it in all_)
        many = [fmean(it.tied for it in all_), fmean(it.candidates for it in all_)]
        print(
            f"| {course.name} | {share[0]:.0%} | {excess:.2%} | {share[1]:.0%} | {many[0]:.1f}"
            f" | {share[2]:.0%} | {many[1]:.1f} |",
            flush=True,
        )
        if course.name == "flat":
            apart = fmean(it.apart for it in all_)
            print(f"| flat: an equal one is told from it | {apart:.0%} | | | | | |", flush=True)
    seconds = time.monotonic() - started
    print(f"\n{trainings} trainings of each kind, {asked.images} images, {seconds:.0f} s")


if __name__ == "__main__":
    main()
