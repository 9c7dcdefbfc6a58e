"""Held-out losses that a test knows, in a log of results_kit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipwatch.domain.losses import TIMES, Example, LossMeasured, LossProtocol, Rows
from results_kit import Log


def plan(images: int = 12, seed: int = 7) -> LossProtocol:
    """Return one with so many held-out images and as many of the training."""
    held = tuple(Example(f"{n:016x}", f"held {n}") for n in range(images))
    trained = tuple(Example(f"{n:016x}", f"trained {n}") for n in range(100, 100 + images))
    return LossProtocol(held, trained, seed, 32, 32)


def rows(level: float, own: int, images: int = 12) -> Rows:
    """Return losses around a level: an image has one of its own, and a checkpoint (`own`) some."""
    base = np.random.default_rng(1).normal(0, 0.05, (images, len(TIMES)))
    noise = np.random.default_rng(1000 + own).normal(0, 0.004, base.shape)
    return tuple(tuple(map(float, row)) for row in level + base + noise)


def measure(
    log: Log,
    run: str,
    step: int,
    level: float,
    *,
    trained: float = 0.5,
    of: LossProtocol | None = None,
) -> Rows:
    """Have a step's losses measured when it is scored next; return those that are held out."""
    of = of or plan()
    held = rows(level, step, len(of.held))
    theirs = rows(trained, 5000 + step, len(of.trained))
    log.losses[run, step] = lambda id_: LossMeasured(id_, of, held, theirs, 1.0)
    return held


OTHER = replace(plan(), seed=8)
"""Of other noise: nothing of it can be compared with what `plan` makes."""
