"""What losses on fixed images say of a training: whether it learns its own images by heart. Pure.

Checkpoints are compared image by image: the same image from the same noise at the same times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clipwatch.domain.losses import LossMeasured, Rows, mean
from clipwatch.results.tables import loss_table
from clipwatch.statistics.course import RECENT, fall
from clipwatch.statistics.means import FEWEST, Means
from clipwatch.statistics.unpaired import difference

WORTH: Final = 0.01
"""Share of the loss by which loss and gap surely have to have grown: far less can be sure."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The losses of one checkpoint, and at which step."""

    step: int
    losses: LossMeasured


def overfit(course: Sequence[Measured], unit: str = "step") -> str:
    """Say that the newest checkpoints fit images that they never saw worse than earlier ones did.

    The last two are surely above what the held-out loss was before, as `regressed` is told of
    scores (see `fall`). Where images of the training are measured, too, the gap to them has surely
    grown since the lowest held-out loss: else the training is just going wrong.

    Args:
        course: Of one evaluation's protocol in the order of the steps, the newest one last.
        unit: What the steps count.

    Returns:
        One sentence, "" if it is not so, or not sure.
    """
    newest = course[-1].losses.protocol.digest
    alike = [it for it in course if it.losses.protocol.digest == newest]
    before = alike[:-RECENT]
    if not before:
        return ""
    lowest = min(before, key=lambda it: mean(it.losses.held))
    level = mean(lowest.losses.held)
    found = fall(Means.shared([loss_table(it.losses) for it in alike]), WORTH * level)
    if found.surely < WORTH * level:
        return ""
    grown = ""
    if alike[-1].losses.trained:
        change = growth(lowest.losses, alike[-1].losses)
        if change is None or change[1] < WORTH * level:
            return ""
        delta, low, high = change
        grown = (
            f", and since then the gap to images of the training grew by {delta:.4f} (95 % interval"
            f" {low:.4f} to {high:.4f})"
        )
    return (
        f"over the last two checkpoints the loss on held-out images is {found.seen / level:.1%}"
        f" above what it was, surely {found.surely / level:.1%} or more; it was lowest at"
        f" {unit} {lowest.step}{grown}: the training learns its images by heart, and people take a"
        f" checkpoint near {unit} {lowest.step}, or train on more images"
    )


def growth(one: LossMeasured, other: LossMeasured) -> tuple[float, float, float] | None:
    """Return how much the gap between held-out and trained images grew from one to the other.

    Returns:
        The growth and its 95 % interval, None for too few images. It is the difference between two
        sets of images of what changed on each image, so that their own levels play no part.
    """
    held, trained = _changes(one.held, other.held), _changes(one.trained, other.trained)
    return None if min(len(held), len(trained)) < FEWEST else difference(held, trained)


def _changes(one: Rows, other: Rows) -> list[float]:
    return [math.fsum(b) / len(b) - math.fsum(a) / len(a) for a, b in zip(one, other, strict=True)]
