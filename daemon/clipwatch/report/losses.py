"""The losses on fixed images of a curve's checkpoints, as the page draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipwatch.domain.losses import LOSS, losses_of
from clipwatch.report.curves import Curve
from clipwatch.results.figures import plural
from clipwatch.results.ranking import Ranking
from clipwatch.results.results import Results
from clipwatch.results.sentences import mark_of
from clipwatch.statistics.intervals import described


def losses(results: Results, curve: Curve, ranking: Ranking | None) -> dict[str, dict[str, Any]]:
    """Return by evaluation its losses, of those on the same images as the newest ones have.

    Args:
        results: That the curve is of.
        curve: Whose.
        ranking: By the held-out loss, None where no checkpoint has one.
    """
    found: dict[str, dict[str, Any]] = {}
    for it in curve.evaluations:
        if not results.has(curve.run, it, LOSS):
            continue
        measured = results.losses(curve.run, it)
        means: Mapping[str, float] = losses_of(measured).means
        scale = results.scale(curve.run, it, LOSS)
        own = described(results.scores(curve.run, it, LOSS), scale)
        mark = mark_of(ranking, it) if ranking else ""
        found[it.id] = {**means, "low": own.low, "high": own.high, "mark": mark}
    return found


def apart(results: Results, curve: Curve) -> list[str]:
    """Say how many have losses of other images than the newest ones, which are not drawn."""
    measured = [it for it in curve.evaluations if it.losses and it.losses.by]
    other = [it for it in measured if not results.has(curve.run, it, LOSS)]
    if not other:
        return []
    count = plural(len(other), "checkpoint")
    told = f"Not drawn are losses of {count}: they are of other images or captions than the newest."
    return [told]
