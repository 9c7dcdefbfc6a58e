"""Tables of scores for tests of the statistics."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from clipwatch.statistics.scores import Scores

COSINES = st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 4))
NAMES = st.text("abcdef", min_size=1, max_size=3)


def tables(smallest: int = 1) -> st.SearchStrategy[Scores]:
    """Draw tables with `smallest` prompts or more, each of one to three images."""
    rows = st.lists(COSINES, min_size=1, max_size=3)
    return st.dictionaries(NAMES, rows, min_size=smallest, max_size=18)


def pairs(smallest: int = 1) -> st.SearchStrategy[tuple[Scores, Scores]]:
    """Draw two tables with the same prompts, images of each as many."""
    cells = st.lists(st.tuples(COSINES, COSINES), min_size=1, max_size=3)
    both = st.dictionaries(NAMES, cells, min_size=smallest, max_size=18)
    return both.map(
        lambda rows: (
            {name: [a for a, _ in row] for name, row in rows.items()},
            {name: [b for _, b in row] for name, row in rows.items()},
        )
    )


def noisy(
    prompts: int, shifts: list[float], images: int = 1, noise: float = 0.015, seed: int = 0
) -> dict[str, Scores]:
    """Score checkpoints on the same prompts, "0", "1" ...; each shifted, with noise of its own."""
    generator = np.random.default_rng(seed)
    effects = generator.normal(0.3, 0.02, (prompts, 1))
    return {
        str(index): {
            f"p{prompt:04}": row
            for prompt, row in enumerate(
                (effects + shift + noise * generator.normal(size=(prompts, images))).tolist()
            )
        }
        for index, shift in enumerate(shifts)
    }
