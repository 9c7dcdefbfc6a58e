"""The scores of one evaluation by prompt, and what several evaluations share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Scores = Mapping[str, Sequence[float]]
"""Prompt id -> cosines of its images, each in -1..1, in the order of the image index."""


def prompt_means(scores: Scores) -> dict[str, float]:
    """Return the mean of each prompt that has images."""
    return {prompt: math.fsum(row) / len(row) for prompt, row in scores.items() if row}


def common(tables: Sequence[Scores]) -> list[Scores]:
    """Return the tables without what some of them lack: what a comparison of them counts."""
    prompts = set.intersection(*(set(table) for table in tables)) if tables else set()
    images = {prompt: min(len(table[prompt]) for table in tables) for prompt in sorted(prompts)}
    return [{prompt: table[prompt][:n] for prompt, n in images.items() if n} for table in tables]


def shared_means(evaluations: Sequence[Scores]) -> list[list[float]]:
    """Return the mean of each shared prompt in each evaluation, over the images that all have.

    One row for each prompt in the order of its id, one column for each evaluation: how a table was
    filled changes no figure. Of a prompt with fewer images somewhere, the first ones count.

    Raises:
        ValueError: No prompt has an image in all evaluations, or a score is not finite.
    """
    tables = common(evaluations)
    prompts = tables[0] if tables else {}
    rows = [[math.fsum(row[id_]) / len(row[id_]) for row in tables] for id_ in prompts]
    if not rows:
        raise ValueError("the evaluations share no scored prompt")
    if not all(math.isfinite(mean) for row in rows for mean in row):
        raise ValueError("a score is not finite")
    return rows
