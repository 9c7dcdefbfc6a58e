"""Results as rows, for trackers that keep what they were given: one for each result and scorer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from clipwatch.results.series import ImageScore, Result, Series
from clipwatch_adapters.shared.numbers import Names, scalars, scalars_of

Told = tuple[Result, str]
"""What a row tells: a result, "" for all that came with it or a scorer that came later."""

Cell = float | str | None


def rows_of(result: Result) -> list[Told]:
    """Return the rows of a result: its own, and one for each scorer that came later."""
    return [(result, scorer) for scorer in ("", *result.later)]


def row_id(told: Told) -> str:
    """Return by which evaluation a row is known."""
    result, scorer = told
    return f"{result.evaluation}+{scorer}" if scorer else result.evaluation


def ids(result: Result) -> tuple[str, ...]:
    """Return by which evaluations the rows of a result are known."""
    return tuple(map(row_id, rows_of(result)))


def numbers(names: Names, told: Told) -> dict[str, float]:
    """Return tag → value of a row: the result's own have nothing of what later scorers said."""
    result, later = told
    if later:
        return scalars_of(names, result, later)
    own = {it: found for it, found in result.scores.items() if it not in result.later}
    return scalars(names, replace(result, scores=own))


def config(series: Series) -> dict[str, Any]:
    """Return the protocol as flat values: prompts as their number, and the digest of all.

    `step_unit` stands there where the axis counts no steps.
    """
    protocol = series.protocol
    values: dict[str, Any] = msgspec.to_builtins(protocol)
    unit = {"step_unit": series.unit} if series.unit != "step" else {}
    return values | {"prompts": len(protocol.prompts), "protocol": protocol.digest} | unit


def caption(series: Series, result: Result, score: ImageScore) -> str:
    """Return step, score and prompt of an image."""
    at, prompt = f"{series.unit} {result.step}", series.protocol.prompts
    text = next(it.text for it in prompt if it.id == score.prompt_id)
    return f"{at}, score {score.score:.{series.digits('')}f}: {text}"


def advice(result: Result) -> str:
    """Return what was advised with a result, a line each."""
    return "\n".join(f"{each.kind}: {each.text}" for each in result.advice)


def by_image(scores: Iterable[ImageScore]) -> dict[tuple[str, int], ImageScore]:
    """Return (prompt, index) → score."""
    return {(score.prompt_id, score.index): score for score in scores}


def score_of(image: ImageScore | None, scorer: str) -> float | None:
    """Return what a scorer gave an image; None where there is none."""
    return None if image is None else image.scores.get(scorer)


def score_table(
    series: Series, names: Names, scores: Sequence[ImageScore], scorers: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Return the columns and rows of the scores by prompt and image, by these scorers."""
    found = by_image(scores)
    indices = range(series.protocol.images_per_prompt)
    columns = (
        *("prompt id", "category", "prompt"),
        *(
            f"{names.scorers[scorer]} score {index}" if scorer else f"score {index}"
            for scorer in scorers
            for index in indices
        ),
    )
    table = (
        (
            *(prompt.id, prompt.category, prompt.text),
            *(
                score_of(found.get((prompt.id, index)), name)
                for name in scorers
                for index in indices
            ),
        )
        for prompt in series.protocol.prompts
    )
    return columns, tuple(table)
