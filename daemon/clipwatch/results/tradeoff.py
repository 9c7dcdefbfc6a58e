"""Two scorers at once: which checkpoints no other one beats by both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipwatch.domain.strengths import written
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.differences import listed
from clipwatch.results.figures import number, plural
from clipwatch.results.sentences import at_strengths, called, strength_of
from clipwatch.statistics.front import front
from clipwatch.statistics.intervals import described

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation
    from clipwatch.results.ranking import Ranking
    from clipwatch.results.results import Results
    from clipwatch.statistics import Summary
    from clipwatch.statistics.scale import Scale


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """A ranking beside another scorer.

    Attributes:
        ranking: By one scorer.
        scorer: The other one.
        others: By evaluation its summary.
        front: The evaluations that no other one beats in both means, by their steps.
        scale: Of the other one's scores.
    """

    ranking: Ranking
    scorer: str
    others: Mapping[str, Summary]
    front: tuple[Evaluation, ...]
    scale: Scale


def beside(results: Results, ranking: Ranking, scorer: str) -> Tradeoff:
    """Look at what was ranked by another scorer, too; what has no such scores is left out.

    Raises:
        ClipwatchError: Nothing has.
    """
    run = ranking.run
    there = [it for it, _ in ranking.all if results.has(run, it, scorer)]
    scale = results.scale(run, ranking.best, scorer)
    others = {it.id: described(results.scores(run, it, scorer), scale) for it in there}
    if not others:
        what = "a held-out loss" if scale.turned else f"scores by {scorer!r}"
        raise ClipwatchError(f"no checkpoint of {run.name} has {what}")
    means = {
        it.id: (_better(own.mean, ranking.scale), _better(others[it.id].mean, scale))
        for it, own in ranking.all
        if it.id in others
    }
    best = set(front(means))
    chosen = tuple(it for it in there if it.id in best)
    return Tradeoff(ranking, scorer, others, chosen, scale)


def _better(mean: float, scale: Scale) -> float:
    """Return a number of which more is better."""
    return -mean if scale.turned else mean


def rows(found: Tradeoff) -> list[tuple[str, ...]]:
    """Return the rows of a table, its head first."""
    ranking = found.ranking
    several = at_strengths(ranking)
    head = (str(ranking.run.unit), *(["strength"] * several), "mean", found.scorer)
    table: list[tuple[str, ...]] = [(*head, "", "checkpoint")]
    for evaluation, own in ranking.all:
        other = found.others.get(evaluation.id)
        at = strength_of(ranking.run, evaluation)
        table.append(
            (
                str(evaluation.step),
                *(["" if at is None else written(at)] * several),
                number(own.mean, ranking.scale.digits),
                "" if other is None else number(other.mean, found.scale.digits),
                "front" * (evaluation in found.front),
                evaluation.checkpoint,
            )
        )
    return table


def sentences(found: Tradeoff) -> Iterator[str]:
    """Say who is on the front, and what that is worth."""
    named = listed([called(found.ranking.run, it) for it in found.front])
    higher = "better" if found.scale.turned or found.ranking.scale.turned else "higher"
    yield f"No other checkpoint is {higher} by both means than {named}."
    if (without := len(found.ranking.all) - len(found.others)) > 0:
        yield f"{plural(without, 'checkpoint')} without scores by {found.scorer} cannot be placed."
    if less := len(found.ranking.outdone):
        was = "was" if less == 1 else "were"
        yield f"{plural(less, 'checkpoint')} that {was} not made to the end cannot be placed."
    yield "By means alone: what lies near the front may be as good."
