"""What Trackio is told of a series: a row for each result, and for each scorer that came later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names, prompt_means, unique
from clipwatch_adapters.shared.rows import (
    Cell,
    caption,
    ids,
    numbers,
    row_id,
    rows_of,
    score_table,
)
from clipwatch_adapters.trackio.session import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clipwatch.results.series import Result, Series

PROMPTS = 500
"""Rows of a table: the dashboard loads those of all steps at once."""

DECIMALS = 6
"""Of the scores in a table."""

SAMPLE = "clipwatch_sample"


def rows(series: Series, results: Iterable[Result]) -> tuple[Row, ...]:
    """Return all rows of these results."""
    names = Names.of(series)
    return tuple(row for result in results for row in _rows(series, names, result))


def superseded(results: Iterable[Result], standing: Iterable[Result]) -> tuple[str, ...]:
    """Return by which evaluations rows are known that those which stand now take the place of."""
    kept = {it.step: it.seq for it in standing}
    gone = (it for it in results if it.seq < kept.get(it.step, it.seq))
    return tuple(known for it in gone for known in ids(it))


def _shown(cell: Cell) -> Cell:
    """Return a cell as a person reads it: the dashboard rounds no number."""
    return round(cell, DECIMALS) if isinstance(cell, float) else cell


def _rows(series: Series, names: Names, result: Result) -> Iterator[Row]:
    scores = series.scores(result.evaluation)
    keys = unique(prompt.id for prompt in series.protocol.prompts)
    for told in rows_of(result):
        later = told[1]
        scorers = (later,) if later else tuple(names.scorers)
        columns, table = score_table(series, names, scores, scorers)
        own = not later
        yield Row(
            id=row_id(told),
            step=result.step,
            at=(result.later[later] if later else result.finished).isoformat(),
            values={**numbers(names, told), "clipwatch/checkpoint": result.checkpoint},
            table=tuple(
                {key: _shown(cell) for key, cell in zip(columns, line, strict=True)}
                for line in table[:PROMPTS]
            ),
            prompt_scores=prompt_means(scores) if own else (),
            samples=tuple(
                (
                    f"{SAMPLE}/{keys[score.prompt_id]}",
                    str(series.images / (score.image or "")),
                    caption(series, result, score),
                )
                for score in showcase(series.protocol, scores)
                if own
            ),
            alerts=tuple(
                (f"clipwatch: {each.kind} at {each.unit} {each.step}", each.text)
                for each in result.advice
                if own
            ),
        )
