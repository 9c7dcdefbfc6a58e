"""The table of an evaluation's prompts with their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clipwatch.results.series import ImageScore, Series
from clipwatch_adapters.shared.numbers import Names

Cell = float | str | None


def by_image(scores: Iterable[ImageScore]) -> dict[tuple[str, int], ImageScore]:
    """Return (prompt's id, index) → score."""
    return {(score.prompt_id, score.index): score for score in scores}


def score_of(image: ImageScore | None, scorer: str) -> float | None:
    """Return what a scorer gave an image; None where there is none."""
    return None if image is None else image.scores.get(scorer)


def table(
    series: Series, names: Names, scores: Sequence[ImageScore], scorers: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Return the columns and rows of the scores by prompt and image, by these scorers."""
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
    rows = (
        (
            *(prompt.id, prompt.category, prompt.text),
            *(
                score_of(images.get((prompt.id, index)), name)
                for name in scorers
                for index in indices
            ),
        )
        for prompt in series.protocol.prompts
    )
    return columns, tuple(rows)
