"""Two checkpoints that somebody named: compared as they were found, by name or by looking."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace

from clipwatch.domain.deciding import is_part
from clipwatch.domain.losses import LOSS
from clipwatch.domain.state import Evaluation, Run
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.named import Named
from clipwatch.results.ranking import looked_at
from clipwatch.results.results import Results
from clipwatch.statistics import Comparison, Verdict
from clipwatch.statistics.best import Interval, Together, turned
from clipwatch.statistics.comparison import OPPOSITE
from clipwatch.statistics.intervals import described
from clipwatch.statistics.means import Means
from clipwatch.statistics.paired import compare, verdict
from clipwatch.statistics.picked import compare_with_best, winners_mean
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, common

Ends = tuple[float, float]
Known = MutableMapping[tuple[str, ...], Together]
"""By evaluations: what all their pairs share, and takes most of the time."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What remains of a difference when one may have looked at all to find it.

    Attributes:
        checkpoints: How many there are.
        interval: b less a; holds for all pairs of them at once, 95 %.
        verdict: By that interval.
    """

    checkpoints: int
    interval: Interval
    verdict: Verdict

    def turned(self) -> Looked:
        """Return the same for a less b."""
        return Looked(self.checkpoints, turned(self.interval), OPPOSITE[self.verdict])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two checkpoints on the prompts that both have; where one is a best, that all have.

    By their losses (`scale.turned`) images stand for prompts, and all numbers are losses: "better"
    and `wins` say that b's are lower.

    Attributes:
        found: The comparison; corrected where one of both was named as the best of its run.
        shared: The scores of each that count.
        means: Mean of each, with the ends of its interval; corrected likewise.
        had: Prompts that each has scores of.
        looked: For two of one run that has more of them.
        scale: Of the scores.
    """

    found: Comparison
    shared: tuple[Scores, Scores]
    means: tuple[tuple[float, Ends | None], tuple[float, Ends | None]]
    had: tuple[int, int]
    looked: Looked | None
    scale: Scale

    def turned(self) -> Pair:
        """Return the same with a and b in each other's place."""
        looked = self.looked and self.looked.turned()
        return Pair(
            self.found.turned(),
            (self.shared[1], self.shared[0]),
            (self.means[1], self.means[0]),
            (self.had[1], self.had[0]),
            looked,
            self.scale,
        )


def pair_of(
    results: Results,
    names: tuple[Named, Named],
    evaluations: tuple[Evaluation, Evaluation],
    scorer: str | None = None,
    known: Known | None = None,
) -> Pair:
    """Compare two checkpoints; differences are b - a.

    Args:
        results: That they are among.
        names: By which somebody called them.
        evaluations: What was scored of them.
        scorer: By whom, None for the one that decides; LOSS for held-out losses.
        known: Kept by who asks for many pairs of one log by one scorer.

    Raises:
        ClipwatchError: They share no scored prompt, or one has no scores by this scorer.
    """
    a, b = (
        results.scores(named.run, evaluation, scorer)
        for named, evaluation in zip(names, evaluations, strict=True)
    )
    chosen = [
        _chosen(results, named, evaluation, scorer)
        for named, evaluation in zip(names, evaluations, strict=True)
    ]
    shared = common([a, b, *chosen[0].values(), *chosen[1].values()])[:2]
    if not shared[0]:
        told = f"{names[0]} and {names[1]} share no scored prompt"
        if scorer == LOSS:
            told = f"the losses of {names[0]} and {names[1]} are of other images or captions"
        raise ClipwatchError(told)
    texts = str(names[0]), str(names[1])
    scale = results.scale(names[0].run, evaluations[0], scorer)
    ended = scorer != LOSS and any(
        is_part(it.run, of) for it, of in zip(names, evaluations, strict=True)
    )
    others = max(1, *map(len, chosen)) if ended else 0
    found = compare(texts[0], shared[0], texts[1], shared[1], scale, stopped=others)
    if ended and others > 1:
        found = replace(found, picked=others)
    elif chosen[1] and not chosen[0]:
        found = _renamed(compare_with_best(chosen[1], texts[0], a, scale).turned(), texts)
    elif chosen[0] and not chosen[1]:
        found = _renamed(compare_with_best(chosen[0], texts[1], b, scale), texts)
    means = tuple(_mean(*each, scale) for each in zip(shared, chosen, strict=True))
    looked = None
    if names[0].run is names[1].run:
        looked = _looked(results, names[0].run, evaluations, scorer, {} if known is None else known)
    pair = Pair(
        found, (shared[0], shared[1]), (means[0], means[1]), (len(a), len(b)), looked, scale
    )
    return _told(pair) if scale.turned else pair


def pair_of_losses(
    results: Results,
    names: tuple[Named, Named],
    evaluations: tuple[Evaluation, Evaluation],
    known: Known | None = None,
) -> Pair | None:
    """Compare the held-out losses of two that were named for other reasons, as `pair_of`.

    Returns:
        None where one has none, or they are not of the same images.
    """
    by = {it.losses.by if it.losses else "" for it in evaluations}
    if len(by) > 1 or not all(by):
        return None
    a, b = (replace(it, among=()) for it in names)  # nobody picked them by their losses
    return pair_of(results, (a, b), evaluations, LOSS, known)


def _told(pair: Pair) -> Pair:
    """Return losses, which were compared turned, with their own sign; verdicts stay."""
    found, looked = pair.found, pair.looked
    delta, low, high = turned((found.delta, found.low, found.high))
    a, b = ({id_: [-it for it in row] for id_, row in table.items()} for table in pair.shared)
    return replace(
        pair,
        found=replace(found, delta=delta, low=low, high=high),
        shared=(a, b),
        looked=looked and replace(looked, interval=turned(looked.interval)),
    )


def _chosen(
    results: Results, named: Named, evaluation: Evaluation, scorer: str | None
) -> dict[str, Scores]:
    """Return all that a best was picked from, nothing for what was named by its step."""
    protocols = named.among if evaluation.protocol in named.among else (evaluation.protocol,)
    looked = looked_at(named.run, protocols, scorer) if named.among else []
    known = [it for it in looked if results.has(named.run, it, scorer)]
    return {it.id: results.scores(named.run, it, scorer) for it in known}


def _mean(own: Scores, chosen: dict[str, Scores], scale: Scale) -> tuple[float, Ends | None]:
    """Return a mean as it is told, with the ends of its interval."""
    summary = described(own, scale)
    if len(chosen) > 1 and summary.low is not None:
        found = winners_mean(Means.shared(common([*chosen.values(), own])[:-1]), scale)
        told = found.value, found.low, found.high
        value, low, high = turned(told) if scale.turned else told
        return value, (low, high)
    if summary.low is None or summary.high is None:
        return summary.mean, None
    return summary.mean, (summary.low, summary.high)


def _renamed(found: Comparison, names: Sequence[str]) -> Comparison:
    return replace(found, a=names[0], b=names[1])


def _looked(
    results: Results,
    run: Run,
    evaluations: Sequence[Evaluation],
    scorer: str | None,
    known: Known,
) -> Looked | None:
    # the base is looked at beside those of any strength, whichever it was scored under
    protocols = dict.fromkeys(it.protocol for it in evaluations if not it.of_base)
    looked = looked_at(run, list(protocols), scorer)
    looked = [it for it in looked if results.has(run, it, scorer)]
    there = {it.id: it for it in (*looked, *evaluations)}
    if len(there) <= len(evaluations) or evaluations[0] is evaluations[1]:
        return None
    if scorer != LOSS and any(is_part(run, it) for it in evaluations):
        return None  # whose intervals hold at every look, and are not of one length with others
    key = tuple(sorted(there))
    if key not in known:
        scores = common([results.scores(run, it, scorer) for it in there.values()])
        if not scores[0]:
            return None
        scale = results.scale(run, evaluations[0], scorer)
        known[key] = Together(dict(zip(there, scores, strict=True)), scale)
    a, b = (it.id for it in evaluations)
    interval = known[key].interval(a, b)
    return Looked(len(there), interval, verdict(*interval[1:]))
