"""What W&B is told of a series: the run's config, metrics and summary, a row for each result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from clipwatch.results.series import ImageScore, Result, Series, highest
from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names, prompt_means, scalars
from clipwatch_adapters.shared.rows import (
    advice,
    by_image,
    caption,
    numbers,
    row_id,
    rows_of,
    score_of,
    score_table,
)
from clipwatch_adapters.wandb.session import CHECKPOINT, EVALUATION, STEP, HistoryRow, Job

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence


def filled(job: Job, series: Series, results: Sequence[Result], held: Container[str | int]) -> Job:
    """Return the job with rows of these results, and what the run shows after the last of them.

    Without those that are `held`.
    """
    names, place, last = Names.of(series), placed(series.results), results[-1].seq
    told = [it for result in results for it in rows_of(result) if row_id(it) not in held]
    tags = (tag for result in series.results for tag in scalars(names, result))
    return replace(
        job,
        metrics=tuple(dict.fromkeys(tags)),
        summary=_summary(names, series.results[: last + 1]),
        steps=tuple({it.step for it in series.results}),
        rows=tuple(
            row(series, names, it[0], place[row_id(it)], it[1])
            for it in sorted(told, key=lambda it: place[row_id(it)])
        ),
    )


def placed(results: Sequence[Result]) -> dict[str, int]:
    """Return the place of each row by its id: rows of later scorers come when those came."""
    later = sorted(
        (at, result.seq, scorer) for result in results for scorer, at in result.later.items()
    )
    found: dict[str, int] = {}
    last = -1
    for result in results:
        while later and later[0][0] < result.finished:
            _, seq, scorer = later.pop(0)
            found[row_id((results[seq], scorer))] = last = last + 1
        found[result.evaluation] = last = max(result.step, last + 1)
    for _, seq, scorer in later:
        found[row_id((results[seq], scorer))] = last = last + 1
    return found


def places(results: Sequence[Result]) -> tuple[int, ...]:
    """Return each result's own step at W&B (`_step`), which grows from row to row.

    It is the trainer's step, or the next free number for a result that comes late. So the sliders
    of images, which know no other step, count the trainer's. A result keeps its place whatever
    comes later, unless the run has rows behind it that this log does not know (session.lacking).
    """
    found = placed(results)
    return tuple(found[result.evaluation] for result in results)


def _summary(names: Names, results: Sequence[Result]) -> dict[str, float | int | str]:
    """Return what the run's summary says after these results, in whatever order they came.

    Plain names have the values of the newest step.
    """
    last = max(results, key=lambda result: (result.step, result.seq))
    best = highest(results) or last
    return {
        **_values(names, last),
        "clip_best/mean": best.clip.mean,
        "clip_best/step": best.step,
        "clip_last/mean": last.clip.mean,
        "clip_last/step": last.step,
    }


def _values(names: Names, result: Result) -> dict[str, float | int | str]:
    return {
        **scalars(names, result),
        STEP: result.step,
        CHECKPOINT: result.checkpoint,
        EVALUATION: result.evaluation,
    }


def row(series: Series, names: Names, result: Result, place: int, later: str = "") -> HistoryRow:
    """Return a result as W&B gets it at a place of its own.

    Without what scorers said that came later; or with that of one of them alone.
    """
    scores = series.scores(result.evaluation)
    values = numbers(names, (result, later))
    known: dict[str, float | int | str] = {
        STEP: result.step,
        CHECKPOINT: result.checkpoint,
        EVALUATION: row_id((result, later)),
    }
    columns, lines = score_table(series, names, scores, (later,) if later else tuple(names.scorers))
    if later:
        return HistoryRow(place, {**values, **known}, (), (), columns, lines)
    shown = showcase(series.protocol, scores)
    text = advice(result)
    return HistoryRow(
        place=place,
        values={**values, **known, **({"clipwatch/advice": text} if text else {})},
        samples=tuple(
            (str(series.images / (score.image or "")), caption(series, result, score))
            for score in shown
        ),
        prompt_scores=prompt_means(scores),
        columns=columns,
        table=lines,
        picture_columns=(
            *("image", "base image", "category", "prompt"),
            *(
                f"{word} {of}" if scorer else of
                for scorer, word in names.scorers.items()
                for of in ("score", "base score")
            ),
        ),
        pictures=tuple(_pictures(series, names, result, shown)),
        alerts=tuple(
            (f"clipwatch: {each.kind} at {each.unit} {each.step}", each.text)
            for each in result.advice
        ),
    )


def _pictures(
    series: Series, names: Names, result: Result, shown: Iterable[ImageScore]
) -> Iterator[tuple[float | str | None, ...]]:
    """Yield a line for each image that is shown, with that of the base model where there is one."""
    compared = result.against_base
    base = by_image(series.scores(compared.a)) if compared else {}
    prompts = {prompt.id: prompt for prompt in series.protocol.prompts}
    for score in shown:
        prompt, before = prompts[score.prompt_id], base.get((score.prompt_id, score.index))
        yield (
            *(str(series.images / it.image) if it and it.image else "" for it in (score, before)),
            *(prompt.category, prompt.text),
            *(score_of(it, name) for name in names.scorers for it in (score, before)),
        )
