"""What a tracker of rows is told of a result: one row for all that came with it, more for later.

A row that a tracker has cannot be changed there, so each scorer that came later has one of its own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from clipwatch.results.series import ImageScore, Result, Series
from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names, scalars, scalars_of

Told = tuple[Result, str]
"""What a row tells: a result, "" for all that came with it or a scorer that came later."""

Cell = float | str | None


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


def told(result: Result) -> list[Told]:
    """Return what the rows of a result tell."""
    return [(result, scorer) for scorer in ("", *result.later)]


def row_id(told: Told) -> str:
    """Return by which a row is known: the evaluation, whichever log it stands in."""
    result, scorer = told
    return f"{result.evaluation}+{scorer}" if scorer else result.evaluation


def ids(result: Result) -> tuple[str, ...]:
    """Return by which the rows of a result are known; a tracker that has all of them holds it."""
    return tuple(map(row_id, told(result)))


def shown(series: Series, ids_there: Container[str]) -> frozenset[int]:
    """Return the `seq` of the results all of whose rows are there."""
    return frozenset(it.seq for it in series.results if all(each in ids_there for each in ids(it)))


def numbers(names: Names, told: Told) -> dict[str, float]:
    """Return tag → value of a row: that of scorers that came later stands in rows of their own."""
    result, later = told
    if later:
        return scalars_of(names, result, later)
    own = {it: found for it, found in result.scores.items() if it not in result.later}
    return scalars(names, replace(result, scores=own))


def rows(series: Series, results: Iterable[Result], held: Container[str] = ()) -> tuple[Row, ...]:
    """Return the rows of these results in their order, but for those that are `held`."""
    names = Names.of(series)
    all_told = (it for result in results for it in told(result))
    return tuple(_row(series, names, it) for it in all_told if row_id(it) not in held)


def outlines(series: Series) -> tuple[Row, ...]:
    """Return the rows of all results with their numbers alone, for which the log is not read."""
    names = Names.of(series)
    return tuple(
        Row(row_id(it), it[0].step, it[0].checkpoint, numbers(names, it), (), (), (), "")
        for result in series.results
        for it in told(result)
    )


def _row(series: Series, names: Names, told: Told) -> Row:
    result, later = told
    scores = series.scores(result.evaluation)
    columns, lines = table(series, names, scores, (later,) if later else tuple(names.scorers))
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
        yield str(series.images / (score.image or "")), text, caption(series, result, score, text)


def caption(series: Series, result: Result, score: ImageScore, prompt: str) -> str:
    """Return what stands below an image."""
    return f"{series.unit} {result.step}, score {score.score:.{series.digits('')}f}: {prompt}"


def advice(result: Result) -> str:
    """Return what was advised with a result, a line each."""
    return "\n".join(f"{each.kind}: {each.text}" for each in result.advice)


def table(
    series: Series, names: Names, scores: Sequence[ImageScore], scorers: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Return the columns and lines of the scores by prompt and image, by these scorers."""
    images = by_image(scores)
    indices = range(series.protocol.images_per_prompt)
    columns = (
        *("prompt id", "category", "prompt"),
        *(
            f"{names.scorers[scorer]} score {index}" if scorer else f"score {index}"
            for scorer in scorers
            for index in indices
        ),
    )
    lines = (
        (
            *(prompt.id, prompt.category, prompt.text),
            *(by(images.get((prompt.id, index)), name) for name in scorers for index in indices),
        )
        for prompt in series.protocol.prompts
    )
    return columns, tuple(lines)


def by_image(scores: Iterable[ImageScore]) -> dict[tuple[str, int], ImageScore]:
    """Return (prompt id, index) → the image's scores."""
    return {(score.prompt_id, score.index): score for score in scores}


def by(image: ImageScore | None, scorer: str) -> float | None:
    """Return what a scorer gave an image; None where there is none."""
    return None if image is None else image.scores.get(scorer)


def config(series: Series) -> dict[str, Any]:
    """Return the protocol as flat values: prompts as their number, and the digest of all.

    `step_unit` stands there where the steps are none.
    """
    protocol = series.protocol
    values: dict[str, Any] = msgspec.to_builtins(protocol)
    unit = {"step_unit": series.unit} if series.unit != "step" else {}
    return values | {"prompts": len(protocol.prompts), "protocol": protocol.digest} | unit
