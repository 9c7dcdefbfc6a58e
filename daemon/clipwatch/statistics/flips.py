"""Signs turned at random: what two evaluations would look like if they were the same.

If two checkpoints are the same but for chance, a prompt's difference is as likely d as -d. Turning
the signs of some prompts' differences thus gives data as likely as the data seen, and a statistic
that few of them reach is evidence (Fisher 1935, "The Design of Experiments", section 21). Turning
all signs changes no two-sided statistic, so a set of prompts and the rest of them are one flip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.05
EXACT: Final = 14
"""Up to so many prompts all flips are tried, above it a sample of about as many."""

ROUNDS: Final = 9_999
CELLS: Final = 2_000_000
"""Numbers held at a time, 16 MB of float64."""


def count(prompts: int) -> int:
    """Return the number of flips that `flips` yields."""
    return 2 ** (prompts - 1) - 1 if prompts <= EXACT else ROUNDS


def rank(prompts: int, level: float = LEVEL) -> int:
    """Return how many flips, the data as seen among them, are that share of all; rounded down.

    0 where no data can be so rare, and nothing can be shown: with 5 % for fewer than six prompts.
    """
    return math.floor(level * (count(prompts) + 1) + 1e-9)


def flips(prompts: int, seed: int, width: int = 1) -> Iterator[NDArray[np.float64]]:
    """Yield flips in blocks, shape (flips, prompts): 1 where the sign turns, else 0.

    The data as seen are not among them (of a sample: by chance only).

    Args:
        prompts: How many there are.
        seed: Of the sample; the same for the same figures.
        width: Numbers that the caller holds for each flip, so that blocks stay small.
    """
    total = count(prompts)
    step = max(1, CELLS // max(prompts, width))
    generator = np.random.default_rng(seed)
    for start in range(0, total, step):
        rows = min(step, total - start)
        if prompts <= EXACT:
            codes = np.arange(start + 1, start + 1 + rows)[:, None]
            yield (codes >> np.arange(prompts) & 1).astype(np.float64)
        else:
            packed = generator.integers(0, 256, (rows, -(-prompts // 8)), np.uint8)
            yield np.unpackbits(packed, axis=1, count=prompts).astype(np.float64)
