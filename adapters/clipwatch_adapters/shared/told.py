"""The rows of results as messages for a session in another process."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

import msgspec

from clipwatch.results.series import ImageScore, Result, Series
from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names
from clipwatch_adapters.shared.rows import (
    Cell,
    Told,
    advice,
    caption,
    ids,
    numbers,
    row_id,
    rows_of,
    score_table,
)


class Row(msgspec.Struct, frozen=True):
    """A row as a session sends it.

    Attributes:
        id: By which it is known, see `ids`.
        step: The trainer's.
        checkpoint: The checkpoint's name.
        numbers: Tag → value.
        samples: Of each image that is shown: file, name (the prompt), caption.
        columns: Of the table of scores.
        table: A line for each prompt.
        advice: What was advised, "" for nothing.
    """

    id: str
    step: int
    checkpoint: str
    numbers: dict[str, float]
    samples: tuple[tuple[str, str, str], ...]
    columns: tuple[str, ...]
    table: tuple[tuple[Cell, ...], ...]
    advice: str


def shown(series: Series, ids_there: Container[str]) -> frozenset[int]:
    """Return the `seq` of the results all of whose rows are there."""
    return frozenset(it.seq for it in series.results if all(each in ids_there for each in ids(it)))


def rows(series: Series, results: Iterable[Result], held: Container[str] = ()) -> tuple[Row, ...]:
    """Return the rows of these results in their order, but for those that are `held`."""
    names = Names.of(series)
    all_told = (it for result in results for it in rows_of(result))
    return tuple(_row(series, names, it) for it in all_told if row_id(it) not in held)


def outlines(series: Series) -> tuple[Row, ...]:
    """Return the rows of all results with their numbers alone, for which the log is not read."""
    names = Names.of(series)
    return tuple(
        Row(row_id(it), it[0].step, it[0].checkpoint, numbers(names, it), (), (), (), "")
        for result in series.results
        for it in rows_of(result)
    )


def _row(series: Series, names: Names, told: Told) -> Row:
    result, later = told
    scores = series.scores(result.evaluation)
    columns, lines = score_table(series, names, scores, (later,) if later else tuple(names.scorers))
    return Row(
        id=row_id(told),
        step=result.step,
        checkpoint=result.checkpoint,
        numbers=numbers(names, told),
        samples=() if later else tuple(_samples(series, result, scores)),
        columns=columns,
        table=lines,
        advice="" if later else advice(result),
    )


def _samples(
    series: Series, result: Result, scores: Sequence[ImageScore]
) -> Iterator[tuple[str, str, str]]:
    prompts = {prompt.id: prompt.text for prompt in series.protocol.prompts}
    for score in showcase(series.protocol, scores):
        text = prompts[score.prompt_id]
        yield str(series.images / (score.image or "")), text, caption(series, result, score)
