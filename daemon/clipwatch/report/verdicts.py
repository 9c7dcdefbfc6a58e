"""What `compare` says of two columns of the page, of one curve or of two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Final

from clipwatch.domain.losses import LOSS
from clipwatch.domain.state import Evaluation
from clipwatch.domain.strengths import WITHOUT
from clipwatch.kit.errors import ClipwatchError
from clipwatch.report.curves import Curve
from clipwatch.results.differences import circumstances, unlike
from clipwatch.results.figures import not_alike
from clipwatch.results.named import Named, as_found
from clipwatch.results.pairs import Known, pair_of, pair_of_losses
from clipwatch.results.results import Results
from clipwatch.results.sentences import called, counted, verdict_of
from clipwatch.statistics.best import Interval

ALL_PAIRS: Final = 100_000
"""Up to so many prompts of pairs all are compared, half a minute's work; of more the usual ones."""

Place = tuple[int, int]
"""A curve, and a column of it."""


@dataclass
class Verdicts:
    """What is said of pairs of columns.

    Attributes:
        said: By both places, in sentences of the second one beside the first, in both directions.
        deltas: By a curve and a column of it, that less the curve's base, with an interval.
    """

    said: dict[tuple[Place, Place], list[str]] = field(default_factory=dict)
    deltas: dict[Place, Interval] = field(default_factory=dict)


def alike(results: Results, a: Curve, b: Curve) -> bool:
    """Whether scores of both may be compared: they differ in an adapter's strength at most."""
    first, second = (results.protocols[it.protocol] for it in (a, b))
    return a.scorer == b.scorer and first.at(WITHOUT) == second.at(WITHOUT)


def apart(results: Results, curves: Sequence[Curve]) -> dict[str, str]:
    """Return by "a b" why two curves cannot be compared, of those by one scorer."""
    found = {}
    for (a, one), (b, other) in combinations(enumerate(curves), 2):
        if one.scorer == other.scorer and not alike(results, one, other):
            why = unlike(results.protocols[one.protocol], results.protocols[other.protocol])
            found[f"{a} {b}"] = "; ".join(why)
    return found


def verdicts(
    results: Results,
    curves: Sequence[Curve],
    bests: Sequence[int | None],
    told: Callable[[str], None],
) -> Verdicts:
    """Compare columns within each curve, then across those that are alike.

    Args:
        results: That the curves are of.
        curves: The page's.
        bests: The best column of each.
        told: Hears how far it is.
    """
    found = Verdicts()
    known: dict[tuple[str, str], Known] = {}
    for (i, a), (j, b) in chosen(results, curves, bests):
        one, other = curves[i], curves[j]
        told(f"{one.run.name}: {one.evaluations[a].checkpoint} beside {other.run.name}")
        shared, losses = (known.setdefault((one.run.name, it), {}) for it in (one.scorer, LOSS))
        _compare(results, found, (one, other), ((i, a), (j, b)), shared, losses)
    return found


def chosen(
    results: Results, curves: Sequence[Curve], bests: Sequence[int | None]
) -> Iterator[tuple[Place, Place]]:
    """Yield the pairs that are compared; of many the usual ones, see `ALL_PAIRS`."""
    room = ALL_PAIRS
    for i, curve in enumerate(curves):
        prompts = _counted(results, curve)
        within = pairs_of(len(curve.evaluations), bests[i], room // prompts)
        room = max(0, room - len(within) * prompts)
        yield from (((i, a), (i, b)) for a, b in within)
    for (i, one), (j, other) in combinations(enumerate(curves), 2):
        if not alike(results, one, other):
            continue
        prompts = _counted(results, one)
        across = across_of(
            one.evaluations, other.evaluations, (bests[i], bests[j]), room // prompts
        )
        room = max(0, room - len(across) * prompts)
        yield from (((i, a), (j, b)) for a, b in across)


def _counted(results: Results, curve: Curve) -> int:
    """Return how many prompts, and images with a loss, a comparison within a curve is of."""
    prompts = len(results.protocols[curve.protocol].prompts)
    with_loss = (it for it in curve.evaluations if results.has(curve.run, it, LOSS))
    measured = None if curve.scorer else next(with_loss, None)
    return prompts + (len(results.losses(curve.run, measured).held) if measured else 0)


def pairs_of(count: int, best: int | None, most: int) -> list[Place]:
    """Return which of so many columns are compared: all, or with the first, the best, neighbours.

    Each pair with the lower one first. `most` is how many there may be for all.
    """
    every = list(combinations(range(count), 2))
    if len(every) <= most:
        return every
    return [(a, b) for a, b in every if a == 0 or b == a + 1 or best in {a, b}]


def across_of(
    one: Sequence[Evaluation],
    other: Sequence[Evaluation],
    bests: tuple[int | None, int | None],
    most: int,
) -> list[Place]:
    """Return which columns of two curves are compared: all, or the bests, the last, each step's.

    What is one and the same evaluation, as the base of several strengths, is not compared.
    """
    every = [(a, b) for a, b in product(range(len(one)), range(len(other)))]
    every = [(a, b) for a, b in every if one[a] is not other[b]]
    if len(every) <= most:
        return every
    last = len(one) - 1, len(other) - 1
    return [it for it in every if it in (bests, last) or one[it[0]].step == other[it[1]].step]


def _compare(
    results: Results,
    found: Verdicts,
    curves: tuple[Curve, Curve],
    places: tuple[Place, Place],
    known: Known,
    losses: Known,
) -> None:
    evaluations = tuple(
        curve.evaluations[column] for curve, (_, column) in zip(curves, places, strict=True)
    )
    first, second = evaluations
    names = tuple(
        as_found(Named(curve.run, it.step, it.checkpoint), it)
        for curve, it in zip(curves, evaluations, strict=True)
    )
    try:
        pair = pair_of(
            results, (names[0], names[1]), (first, second), curves[0].scorer or None, known
        )
    except ClipwatchError:  # they share no prompt
        return
    one_run = curves[0].run is curves[1].run
    a, b = (
        called(name.run, it) if one_run else str(name)
        for name, it in zip(names, evaluations, strict=True)
    )
    # within a curve the page says it once for all
    notes = [] if curves[0] is curves[1] else not_alike(circumstances([first, second]))[1:]
    lost = None
    if not curves[0].scorer:
        lost = pair_of_losses(results, (names[0], names[1]), (first, second), losses)
    turned = pair.turned()
    more = [verdict_of(lost, a, b)] if lost else []
    found.said[places] = [verdict_of(pair, a, b), *counted(pair), *more, *notes]
    more = [verdict_of(lost.turned(), b, a)] if lost else []
    found.said[places[::-1]] = [verdict_of(turned, b, a), *counted(turned), *more, *notes]
    if curves[0] is curves[1] and first.of_base:
        found.deltas[places[1]] = (pair.found.delta, pair.found.low, pair.found.high)
