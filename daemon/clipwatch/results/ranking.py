"""A run's checkpoints by their scores: the best, and those that cannot be told from it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from clipwatch.domain.deciding import is_part
from clipwatch.domain.losses import LOSS
from clipwatch.domain.state import Evaluation, Run
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.results import Results, scored
from clipwatch.statistics import Summary
from clipwatch.statistics.best import Interval, best_of, turned
from clipwatch.statistics.intervals import described
from clipwatch.statistics.racing import SPENT
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import common


@dataclass(frozen=True, slots=True)
class Ranking:
    """All scored checkpoints of a run, each at all its strengths, on the prompts that all have.

    By their losses (`scale.turned`) images stand for prompts, the best has the lowest mean, and all
    numbers are losses.

    Attributes:
        run: Their run.
        best: The one with the highest mean.
        mean: That mean, with the ends of an interval that knows it was picked; see `best_of`.
        tied: Those that cannot be told from it, in the order of their steps.
        candidates: Those that may be the best in truth, itself among them, in the same order.
        all: Each with its summary, in the order of their steps and strengths.
        differences: By evaluation, each of the others less the best; see `best_of`.
        n_prompts: That all have scores of.
        scale: Of the scores.
        without: How many more there are that have no scores by the scorer.
        parts: Those that are not looked at, as their difference to another was known early.
        outdone: Those of which no more images are made, as they are surely not the best.
    """

    run: Run
    best: Evaluation
    mean: Interval
    tied: tuple[Evaluation, ...]
    candidates: tuple[Evaluation, ...]
    all: tuple[tuple[Evaluation, Summary], ...]
    differences: Mapping[str, Interval]
    n_prompts: int
    scale: Scale
    without: int = 0
    parts: tuple[Evaluation, ...] = ()
    outdone: tuple[Evaluation, ...] = ()


def standing(run: Run, protocols: Sequence[str]) -> list[Evaluation]:
    """Return what stands for each checkpoint, in the order of the steps, then of the protocols.

    Of one that was scored again it is the latest weights; the base is none of them.
    """
    latest = {
        (protocol, it.checkpoint): it
        for protocol in protocols
        for it in scored(run, protocol)
        if not it.of_base
    }
    return sorted(latest.values(), key=lambda it: (it.step, it.checkpoint))


def looked_at(run: Run, protocols: Sequence[str], scorer: str | None = None) -> list[Evaluation]:
    """Return what a best is picked from, in the order of `standing`.

    Not what is `outdone`, nor its earlier weights; what ended when its difference to another was
    known is not while others are there (see `deciding.is_part`). But by losses all of it is, as
    these are whole; and by further scorers nobody is outdone.
    """
    there = _standing(run, protocols)
    found = [it for it in there if scorer == LOSS or not is_part(run, it)] or there
    return _ordered([*found, *outdone(run, protocols)], protocols) if scorer else found


def _standing(run: Run, protocols: Sequence[str]) -> list[Evaluation]:
    """Return what is `standing`, without the earlier weights of what is outdone."""
    gone = {(it.protocol, it.checkpoint) for it in outdone(run, protocols)}
    return [it for it in standing(run, protocols) if (it.protocol, it.checkpoint) not in gone]


def outdone(run: Run, protocols: Sequence[str]) -> list[Evaluation]:
    """Return what is surely not the best, and was left as it is, in the order of `standing`."""
    found = [
        it for it in run.evaluations.values() if it.state == "outdone" and it.protocol in protocols
    ]
    there = [it for it in found if run.checkpoints[it.checkpoint].digest == it.digest]
    return _ordered(there, protocols)


def _ordered(found: Iterable[Evaluation], protocols: Sequence[str]) -> list[Evaluation]:
    return sorted(found, key=lambda it: (it.step, it.checkpoint, protocols.index(it.protocol)))


def scored_by(run: Run, protocol: str, scorer: str | None) -> list[Evaluation]:
    """Return what was scored under a protocol, in that order; by LOSS what is outdone, too."""
    less = outdone(run, [protocol]) if scorer == LOSS else []
    return [*scored(run, protocol), *(it for it in less if it.losses and it.losses.by)]


def rank(
    results: Results,
    run: Run,
    protocols: Sequence[str],
    scorer: str | None = None,
    among: Container[str] | None = None,
    *,
    raced: bool = False,
) -> Ranking:
    """Rank what a run scored under protocols that differ in the strength at most.

    Args:
        results: That hold their scores.
        run: Their run.
        protocols: Their digests.
        scorer: By whose numbers, None for the one that decides; LOSS for held-out losses.
        among: The names of those that are looked at, None for all.
        raced: Some could have been outdone, though none may be.

    Raises:
        ClipwatchError: Nothing is scored, not by this scorer, or on no prompt that all have.
    """

    def asked(found: Iterable[Evaluation]) -> list[Evaluation]:
        return [it for it in found if among is None or it.checkpoint in among]

    there = asked(looked_at(run, protocols, scorer))
    looked = {it.id for it in there}
    less = [] if scorer else asked(outdone(run, protocols))
    known = {it.id: it for it in there if results.has(run, it, scorer)}
    without = len(there) - len(known)
    known = known or {it.id: it for it in there}  # whose lack is told
    if not known and less:
        raise ClipwatchError(
            f"of {run.name} nothing here was made to the end, as others are surely better",
            fix="clipwatch rank --full makes the rest",
        )
    if not known:
        raise ClipwatchError(
            f"{run.name} has no scores yet under its present settings",
            fix="clipwatch status shows why",
        )
    tables = common([results.scores(run, it, scorer) for it in known.values()])
    if not tables[0]:
        raise ClipwatchError(f"the checkpoints of {run.name} share no scored prompt")
    scale = results.scale(run, next(iter(known.values())), scorer)
    spent = SPENT if less or raced else 0.0
    found = best_of(dict(zip(known, tables, strict=True)), scale, spent=spent)
    summaries = (described(it, scale) for it in tables)
    mean, differences = found.mean, found.differences
    if scale.turned:
        mean = turned(mean)
        differences = {id_: turned(it) for id_, it in differences.items()}
    return Ranking(
        run,
        known[found.best],
        mean,
        tuple(known[id_] for id_ in found.tied),
        tuple(known[id_] for id_ in found.candidates),
        tuple(zip(known.values(), summaries, strict=True)),
        differences,
        found.n_prompts,
        scale,
        without,
        tuple(it for it in asked(_standing(run, protocols)) if it.id not in looked),
        tuple(less),
    )


def by_loss(results: Results, run: Run, protocols: Sequence[str]) -> Ranking | None:
    """Rank as `rank` does by held-out losses; None where no checkpoint has one.

    Those that were measured on the images of the newest ones are compared.
    """
    if not any(results.has(run, it, LOSS) for it in looked_at(run, protocols, LOSS)):
        return None
    return rank(results, run, protocols, LOSS)
