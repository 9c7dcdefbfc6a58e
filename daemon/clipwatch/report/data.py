"""What goes into the page: the numbers of the log, and what `best` and `compare` say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import msgspec

from clipwatch.domain import strengths
from clipwatch.domain.state import Evaluation, Run
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.differences import circumstances, listed
from clipwatch.results.figures import few, not_alike
from clipwatch.results.named import Named, as_found, superseded
from clipwatch.results.pairs import Known, pair_of
from clipwatch.results.ranking import Ranking, looked_at, rank
from clipwatch.results.results import Results
from clipwatch.results.sentences import about_best, called, counted, ranked, verdict_of
from clipwatch.results.view import Row, rows
from clipwatch.statistics.intervals import describe

ALL_PAIRS: Final = 100_000
"""Up to so many prompts of pairs all are compared, half a minute's work; of more the usual ones."""

TOLD: Final = ("failed", "discarded", "waiting", "evaluating")
"""States of checkpoints without a score."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What was scored of a run under one protocol: the base first, then in the order of steps."""

    run: Run
    protocol: str
    evaluations: tuple[Evaluation, ...]


def curves_of(run: Run) -> list[Curve]:
    """Return those that a run has scores of.

    Under its present protocol first, then at further strengths in their order, then the newest.
    """
    present = [run.protocol, *strengths.ascending(run, run.beside)]
    earlier = [it for it in reversed([*run.protocols]) if it not in present]
    order = [it for it in (*present, *earlier) if it in run.scored]
    found = [Curve(run, it, tuple(_columns(run, it))) for it in order]
    return [it for it in found if it.evaluations]


def page_data(
    results: Results, curves: Sequence[Curve], told: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return what the page shows of each curve, but for the images.

    Args:
        results: Where they are from.
        curves: In the order in which they are offered.
        told: Hears what is done now, as it takes a while where there are many prompts.

    Raises:
        JournalError: The log cannot be read.
    """
    return [_curve(results, it, told) for it in curves]


def _columns(run: Run, protocol: str) -> Iterator[Evaluation]:
    if base := strengths.base_of(run, protocol):
        yield run.evaluations[base]
    yield from looked_at(run, [protocol])


def _curve(results: Results, curve: Curve, told: Callable[[str], None]) -> dict[str, Any]:
    run, protocol = curve.run, results.protocols[curve.protocol]
    told(f"{run.name}: {len(curve.evaluations)} checkpoints")
    ranking = _ranking(results, curve)
    scale = results.scale(curve.evaluations[0])
    at = protocol.adapter_strength if curve.protocol in run.present else None
    made = protocol.written()
    made["prompts"] = f"{len(protocol.prompts)}, in the gallery"
    seeds: dict[str, list[str]] = {}  # JavaScript has no whole numbers of 63 bits
    for prompt, _, seed in protocol.images():
        seeds.setdefault(prompt.id, []).append(str(seed))
    return {
        "run": run.name,
        "directory": run.output_dir,
        "unit": run.unit,
        "digest": curve.protocol,
        "strength": strengths.told(run, curve.protocol),
        "present": curve.protocol in run.present,
        "changed": superseded(results, Named(run, 0), curve.evaluations[-1]),
        "digits": scale.digits,
        "tie": scale.tie,
        "zones": scale.poor is not None,
        "prompts": [
            {"id": it.id, "text": it.text, "category": it.category, "seeds": seeds[it.id]}
            for it in protocol.prompts
        ],
        "checkpoints": [_checkpoint(results, run, it, ranking) for it in curve.evaluations],
        "best": _place(curve, ranking.best) if ranking else None,
        "verdict": [*about_best(ranking)]
        if ranking
        else ["Only the base model has scores so far."],
        "ranked": ranked(ranking) if ranking else [],
        "notes": list(filter(None, not_alike(circumstances(curve.evaluations)))),
        "pairs": _pairs(results, curve, ranking, told),
        "advice": [
            {"step": it.step, "kind": it.kind, "text": it.text}
            for it in run.advice
            if it.evaluation in run.scored[curve.protocol]
        ],
        "protocol": {name: _text(value) for name, value in made.items()},
        "environment": _environment(curve.evaluations),
        "unscored": [
            {"step": it.step, "name": _titled(it), "state": it.state, "reason": it.reason or ""}
            for it in rows(run)
            if it.state in TOLD and (at is None or it.strength in (None, at))
        ],
    }


def _titled(row: Row) -> str:
    return row.name if row.strength is None else f"{row.name} at {strengths.label(row.strength)}"


def _ranking(results: Results, curve: Curve) -> Ranking | None:
    try:
        return rank(results, curve.run, [curve.protocol])
    except ClipwatchError:  # nothing but the base, or no prompt that all have
        return None


def _place(curve: Curve, evaluation: Evaluation) -> int:
    return curve.evaluations.index(evaluation)


def _checkpoint(
    results: Results, run: Run, evaluation: Evaluation, ranking: Ranking | None
) -> dict[str, Any]:
    """Return one with all that was scored of it: by prompt, in the order of the protocol."""
    table = results.scores(run, evaluation)
    own = describe(table)
    mark = ""
    if ranking:
        mark = "best" if evaluation is ranking.best else "tied" * (evaluation in ranking.tied)
    if ranking and (len(ranking.all) == 1 or few(ranking.n_prompts)):
        mark = "best" if evaluation is ranking.best else ""
    return {
        "step": evaluation.step,
        "name": evaluation.checkpoint,
        "found_by": str(as_found(Named(run, evaluation.step), evaluation)),
        "base": evaluation.of_base,
        "mean": own.mean,
        "low": own.low,
        "high": own.high,
        "min": own.min,
        "max": own.max,
        "n": own.n,
        "mark": mark,
        "finished": evaluation.finished.isoformat(timespec="seconds")
        if evaluation.finished
        else "",
        "scores": [
            table.get(prompt.id) for prompt in results.protocols[evaluation.protocol].prompts
        ],
    }


def pairs_of(count: int, best: int | None, prompts: int) -> list[tuple[int, int]]:
    """Return which of so many columns are compared: all, or with the first, the best, neighbours.

    Each pair with the lower one first.
    """
    every = list(combinations(range(count), 2))
    if len(every) * prompts <= ALL_PAIRS:
        return every
    return [(a, b) for a, b in every if a == 0 or b == a + 1 or best in {a, b}]


def _pairs(
    results: Results, curve: Curve, ranking: Ranking | None, told: Callable[[str], None]
) -> dict[str, list[str]]:
    """Return by "a b" what `compare` says of columns a and b, in both directions."""
    run, best = curve.run, _place(curve, ranking.best) if ranking else None
    count = len(results.protocols[curve.protocol].prompts)
    known: Known = {}
    found: dict[str, list[str]] = {}
    chosen = pairs_of(len(curve.evaluations), best, count)
    for place, (a, b) in enumerate(chosen):
        told(f"{curve.run.name}: pair {place + 1} of {len(chosen)}")
        evaluations = curve.evaluations[a], curve.evaluations[b]
        first, second = (Named(curve.run, it.step, it.checkpoint) for it in evaluations)
        try:
            pair = pair_of(results, (first, second), evaluations, known=known)
        except ClipwatchError:  # they share no prompt
            continue
        names = [called(run, it) for it in evaluations]
        turned = pair.turned()
        found[f"{a} {b}"] = [verdict_of(pair, *names), *counted(pair)]
        found[f"{b} {a}"] = [verdict_of(turned, names[1], names[0]), *counted(turned)]
    return found


def _environment(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Return in which circumstances they were made; several values where they differ."""
    found: dict[str, list[str]] = {}
    for evaluation in evaluations:
        environment: Mapping[str, str] = evaluation.environment
        for key, value in environment.items():
            found.setdefault(key, []).append(value)
    return {key: listed(list(dict.fromkeys(values))) for key, values in found.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
