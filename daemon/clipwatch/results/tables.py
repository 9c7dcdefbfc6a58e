"""From the log's images to the tables that the statistics read; imports nothing heavy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from clipwatch.domain.events import ImageScore
from clipwatch.domain.losses import LossMeasured
from clipwatch.statistics.scores import Scores


def score_table(images: Iterable[ImageScore], scorer: str = "") -> Scores:
    """Return prompt id -> scores in the order of the image index; of one told twice the last.

    Args:
        images: Of one evaluation.
        scorer: By whom, "" for the one that decides; images that it has not scored are left out.
    """
    known = (it for it in images if scorer in it.scores)
    return table_of((it.prompt_id, it.index, it.scores[scorer]) for it in known)


def score_tables(images: Sequence[ImageScore]) -> dict[str, Scores]:
    """Return the table of each scorer, by its name; that of the one that decides is first."""
    names = sorted({name for image in images for name in image.scores})
    return {name: score_table(images, name) for name in names}


def loss_table(measured: LossMeasured) -> Scores:
    """Return held-out losses as scores, of which more is better (see `Scale.turned`).

    An image stands in the place of a prompt, and has a number for each time. Those of other images,
    captions, sizes or noise share none with them: nothing can compare the two.
    """
    by = measured.protocol.digest
    return {f"{by}/{n:04}": [-loss for loss in row] for n, row in enumerate(measured.held)}


def table_of(rows: Iterable[tuple[str, int, float]]) -> Scores:
    """Return the table of (prompt id, image index, score); of one told twice the last counts."""
    found: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for prompt, index, score in rows:
        found[prompt][index] = score
    return {prompt: [row[index] for index in sorted(row)] for prompt, row in found.items()}
