"""From the log's images to the tables that the statistics read; imports nothing heavy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from clipwatch.domain.events import ImageScore
from clipwatch.statistics.scores import Scores


def score_table(images: Iterable[ImageScore]) -> Scores:
    """Return prompt id -> cosines in the order of the image index; of one told twice the last."""
    return _table((it.prompt_id, it.index, it.score) for it in images)


def other_tables(images: Iterable[ImageScore]) -> dict[str, Scores]:
    """Return for each further scorer what `score_table` returns for the first."""
    found: defaultdict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for it in images:
        for name, score in it.others.items():
            found[name].append((it.prompt_id, it.index, score))
    return {name: _table(rows) for name, rows in found.items()}


def _table(rows: Iterable[tuple[str, int, float]]) -> Scores:
    found: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for prompt, index, score in rows:
        found[prompt][index] = score
    return {prompt: [row[index] for index in sorted(row)] for prompt, row in found.items()}
