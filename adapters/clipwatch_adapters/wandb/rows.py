"""What W&B is told of a series: the run's config, metrics and summary, a row for each result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names, prompt_means, scalars
from clipwatch_adapters.wandb.session import CHECKPOINT, EVALUATION, STEP, HistoryRow, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clipwatch.results.series import ImageScore, Result, Series


def config(series: Series) -> dict[str, Any]:
    """Return the protocol as flat values: prompts as their number, and the digest of all.

    `step_unit` stands there where `clipwatch/step` counts no steps.
    """
    protocol = series.protocol
    values: dict[str, Any] = msgspec.to_builtins(protocol)
    unit = {"step_unit": series.unit} if series.unit != "step" else {}
    return values | {"prompts": len(protocol.prompts), "protocol": protocol.digest} | unit


def filled(job: Job, series: Series, results: Sequence[Result]) -> Job:
    """Return the job with rows of these results, and what the run shows after the last of them."""
    names, place, last = Names.of(series), places(series.results), results[-1].seq
    tags = (tag for result in series.results for tag in scalars(names, result))
    return replace(
        job,
        metrics=tuple(dict.fromkeys(tags)),
        summary=_summary(names, series.results[: last + 1]),
        steps=tuple({it.step for it in series.results}),
        rows=tuple(row(series, names, result, place[result.seq]) for result in results),
    )


def places(results: Sequence[Result]) -> tuple[int, ...]:
    """Return each result's own step at W&B (`_step`), which grows from row to row.

    It is the trainer's step, or the next free number for a result that comes late. So the sliders
    of images, which know no other step, count the trainer's. A result keeps its place whatever
    comes later, unless the run has rows behind it that this log does not know (session.lacking).
    """
    found: list[int] = []
    for result in results:
        found.append(max(result.step, found[-1] + 1 if found else 0))
    return tuple(found)


def _summary(names: Names, results: Sequence[Result]) -> dict[str, float | int | str]:
    """Return what the run's summary says after these results, in whatever order they came.

    Plain names have the values of the newest step; the best is the highest mean of any step, the
    earlier one of equals.
    """
    last = max(results, key=lambda result: (result.step, result.seq))
    standing = {result.step: result for result in results}
    best = max(standing.values(), key=lambda result: (result.clip.mean, -result.step))
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


def row(series: Series, names: Names, result: Result, place: int) -> HistoryRow:
    """Return a result as W&B gets it at a place of its own."""
    scores = series.scores(result.evaluation)
    shown = showcase(series.protocol, scores)
    prompts = {prompt.id: prompt for prompt in series.protocol.prompts}
    by_image = _by_image(scores)
    indices = range(series.protocol.images_per_prompt)
    at = f"{series.unit} {result.step}"
    advice = "\n".join(f"{each.kind}: {each.text}" for each in result.advice)
    return HistoryRow(
        place=place,
        values=_values(names, result) | ({"clipwatch/advice": advice} if advice else {}),
        samples=tuple(
            (
                str(series.images / (score.image or "")),
                f"{at}, score {score.score:.{series.digits('')}f}: {prompts[score.prompt_id].text}",
            )
            for score in shown
        ),
        prompt_scores=prompt_means(scores),
        columns=(
            *("prompt id", "category", "prompt"),
            *(
                f"{word} score {index}" if scorer else f"score {index}"
                for scorer, word in names.scorers.items()
                for index in indices
            ),
        ),
        table=tuple(
            (
                *(prompt.id, prompt.category, prompt.text),
                *(
                    _score(by_image.get((prompt.id, index)), name)
                    for name in names.scorers
                    for index in indices
                ),
            )
            for prompt in prompts.values()
        ),
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
    base = _by_image(series.scores(compared.a)) if compared else {}
    prompts = {prompt.id: prompt for prompt in series.protocol.prompts}
    for score in shown:
        prompt, before = prompts[score.prompt_id], base.get((score.prompt_id, score.index))
        yield (
            *(str(series.images / it.image) if it and it.image else "" for it in (score, before)),
            *(prompt.category, prompt.text),
            *(_score(it, name) for name in names.scorers for it in (score, before)),
        )


def _by_image(scores: Iterable[ImageScore]) -> dict[tuple[str, int], ImageScore]:
    return {(score.prompt_id, score.index): score for score in scores}


def _score(image: ImageScore | None, scorer: str) -> float | None:
    """Return what a scorer gave an image; None where there is none."""
    return None if image is None else image.scores.get(scorer)
