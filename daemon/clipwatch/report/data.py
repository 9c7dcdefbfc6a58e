"""What goes into the page: the numbers of the log, and what `best` and `compare` say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from clipwatch.domain import strengths
from clipwatch.domain.state import Evaluation
from clipwatch.kit.errors import ClipwatchError
from clipwatch.report.answers import answered, asked
from clipwatch.report.curves import Curve
from clipwatch.report.losses import apart as losses_apart
from clipwatch.report.losses import losses
from clipwatch.report.verdicts import Place, Verdicts, alike, apart, verdicts
from clipwatch.results.decisions import called as reference_called
from clipwatch.results.decisions import decided, estimated
from clipwatch.results.differences import circumstances, listed
from clipwatch.results.figures import not_alike, plural
from clipwatch.results.named import Named, as_found, superseded
from clipwatch.results.ranking import Ranking, by_loss, looked_at, rank
from clipwatch.results.results import Results
from clipwatch.results.sentences import about_best, about_loss, called, mark_of, ranked
from clipwatch.results.view import Row, rows
from clipwatch.results.vote_sentences import about_votes, voted
from clipwatch.results.voting import votings
from clipwatch.statistics.front import front
from clipwatch.statistics.intervals import by_category, describe

LIKENESS: Final = "likeness"
"""The kind of scorers whose means are drawn against those of the one that decides."""

TOLD: Final = ("failed", "discarded", "waiting", "evaluating")
"""States of checkpoints without a score."""


def page_data(
    results: Results, curves: Sequence[Curve], told: Callable[[str], None]
) -> dict[str, Any]:
    """Return what the page shows, but for the images.

    A curve by a further scorer holds what is its own, and is for the rest `like` another one.
    Columns are numbered through all curves, a curve's begin with its `first`.

    Args:
        results: Where they are from.
        curves: In the order in which they are offered.
        told: Hears what is done now, as it takes a while where there are many prompts.

    Raises:
        JournalError: The log cannot be read.
    """
    rankings = []
    for curve in curves:
        told(f"{curve.run.name}: {len(curve.evaluations)} checkpoints")
        rankings.append(_ranking(results, curve))
    bests = [
        curve.evaluations.index(ranking.best) if ranking else None
        for curve, ranking in zip(curves, rankings, strict=True)
    ]
    found = verdicts(results, curves, bests, told)
    data: list[dict[str, Any]] = []
    first: list[int] = []
    for place, (curve, ranking) in enumerate(zip(curves, rankings, strict=True)):
        first.append(first[-1] + len(curves[place - 1].evaluations) if first else 0)
        own = _own(results, curve, ranking, _deltas(found, place))
        own |= {"best": bests[place], "first": first[place]}
        shared = _of_like(curves, place, own) if curve.scorer else _shared(results, curves, place)
        if _sees_likeness(results, curve):
            own["front"] = _front(curve, data[shared["like"]], own)
        data.append(shared | own)

    def number(place: Place) -> int:
        return first[place[0]] + place[1]

    said = {f"{number(a)} {number(b)}": text for (a, b), text in found.said.items()}
    return {"curves": data, "pairs": said, "apart": apart(results, curves)}


def _like(curves: Sequence[Curve], place: int) -> int:
    """Return the curve by the scorer that decides, of the same run and protocol."""
    mine = curves[place].run.name, curves[place].protocol, ""
    return [(it.run.name, it.protocol, it.scorer) for it in curves].index(mine)


def _of_like(curves: Sequence[Curve], place: int, own: dict[str, Any]) -> dict[str, Any]:
    """Return which curve a further scorer's is like; where it lacks some, `at` is their column."""
    like = _like(curves, place)
    all_, mine = curves[like].evaluations, curves[place].evaluations
    if len(all_) != len(mine):
        for column, it in zip(own["checkpoints"], mine, strict=True):
            column["at"] = all_.index(it)
    return {"like": like}


def _sees_likeness(results: Results, curve: Curve) -> bool:
    """Whether it is by a further scorer of likeness to a subject."""
    named = {it.name: it for it in results.protocols[curve.protocol].scorers}
    added = curve.run.further.get(curve.scorer)
    spec = named.get(curve.scorer) or (added.spec if added else None)
    return bool(curve.scorer) and spec is not None and spec.kind == LIKENESS


def _front(curve: Curve, like: Mapping[str, Any], own: Mapping[str, Any]) -> list[int]:
    """Return the columns that no other one beats in likeness and by the scorer that decides.

    Of those alone that a best is picked from, as `best --against` does.
    """
    whole = {it.id for it in looked_at(curve.run, [curve.protocol])}
    means = {
        column: (it["mean"], like["checkpoints"][it.get("at", column)]["mean"])
        for column, it in enumerate(own["checkpoints"])
        if curve.evaluations[column].id in whole
    }
    return front(means)


def _deltas(found: Verdicts, place: int) -> dict[int, tuple[float, float, float]]:
    return {column: it for (curve, column), it in found.deltas.items() if curve == place}


def _shared(results: Results, curves: Sequence[Curve], place: int) -> dict[str, Any]:
    """Return what holds of a run under a protocol, whatever the scorer."""
    curve = curves[place]
    run, protocol = curve.run, results.protocols[curve.protocol]
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
        "group": next(n for n, it in enumerate(curves) if alike(results, it, curve)),
        "present": curve.protocol in run.present,
        "changed": superseded(results, Named(run, 0), curve.evaluations[-1]),
        "prompts": [
            {"id": it.id, "text": it.text, "category": it.category, "seeds": seeds[it.id]}
            | asked(it)
            for it in protocol.prompts
        ],
        "notes": list(filter(None, not_alike(circumstances(curve.evaluations)))),
        "protocol": {name: _text(value) for name, value in made.items()},
        "environment": _environment(curve.evaluations),
        "skipped": [
            *_cut_short(curve),
            *losses_apart(results, curve),
            *(it for it in (run.problem, run.lacking) if it),
        ],
        "unscored": [
            {"step": it.step, "name": _titled(it), "state": it.state, "reason": it.reason or ""}
            for it in rows(run)
            if it.state in TOLD and (at is None or it.strength in (None, at))
        ],
    }


def _own(
    results: Results,
    curve: Curve,
    ranking: Ranking | None,
    deltas: Mapping[int, tuple[float, float, float]],
) -> dict[str, Any]:
    """Return what a scorer says of it."""
    run, scorer = curve.run, curve.scorer
    scale = results.scale(run, curve.evaluations[0], scorer)
    lowest = None if scorer else by_loss(results, run, [curve.protocol])
    of_loss = {} if scorer else losses(results, curve, lowest)
    named = {it.name: it for it in results.protocols[curve.protocol].scorers}
    spec = named[scorer] if scorer in named else run.further[scorer].spec
    return {
        "scorer": scorer,
        "scored_by": f"{scorer} ({spec})" if scorer else str(spec),
        "digits": scale.digits,
        "tie": scale.tie,
        "zones": scale.poor is not None,
        "checkpoints": [
            _checkpoint(results, curve, it, ranking)
            | {"delta": deltas.get(column), "loss": of_loss.get(it.id)}
            | answered(results, curve, it)
            for column, it in enumerate(curve.evaluations)
        ],
        "verdict": [
            *(about_best(ranking) if ranking else ["Only the base model has scores so far."]),
            *([about_loss(lowest)] if lowest else []),
        ],
        "ranked": ranked(ranking) if ranking else [],
        "votes": [
            {"sentences": [*about_votes(it)], "rows": voted(it)}
            for it in votings(results, run, [curve.protocol], scorer or None)
        ],
        "advice": [
            {"step": it.step, "kind": it.kind, "text": it.text}
            for it in run.advice
            if it.evaluation in run.scored[curve.protocol] and scorer in ("", it.scorer)
        ],
    }


def _cut_short(curve: Curve) -> list[str]:
    """Say which were not scored on all images, as their mean was known closely enough."""
    made = curve.run.protocols[curve.protocol]
    asked = len(made.prompts) * made.images_per_prompt
    fewer = [it for it in curve.evaluations if it.clip and it.clip.n < asked]
    if not fewer:
        return []
    named = listed([f"{called(curve.run, it)} ({it.clip.n})" for it in fewer if it.clip])
    told = [f"Of {plural(asked, 'image')} fewer were scored of {named}."]
    for it in fewer:
        name, done = called(curve.run, it), it.completed
        if done and done.decision:
            other = reference_called(curve.run, done.decision.reference)
            told.append(f"{name} is {decided(done.decision, other)}.")
        if done and done.estimate and it.clip:
            told.append(f"The mean of {name} is {estimated(done.estimate, it.clip.n)}.")
    return told


def _titled(row: Row) -> str:
    return row.name if row.strength is None else f"{row.name} at {strengths.label(row.strength)}"


def _ranking(results: Results, curve: Curve) -> Ranking | None:
    try:
        return rank(results, curve.run, [curve.protocol], curve.scorer or None)
    except ClipwatchError:  # nothing but the base, or no prompt that all have
        return None


def _checkpoint(
    results: Results, curve: Curve, evaluation: Evaluation, ranking: Ranking | None
) -> dict[str, Any]:
    """Return one with all that was scored of it: by prompt, in the order of the protocol."""
    table = results.scores(curve.run, evaluation, curve.scorer or None)
    prompts = results.protocols[evaluation.protocol].prompts
    categories = by_category(table, {it.id: it.category for it in prompts})
    own, done = describe(table), evaluation.completed
    if done and done.estimate:
        own = done.scores.get(curve.scorer, own)
    return {
        "step": evaluation.step,
        "name": evaluation.checkpoint,
        "evaluation": evaluation.id,
        "found_by": str(as_found(Named(curve.run, evaluation.step), evaluation)),
        "base": evaluation.of_base,
        **{key: value for key, value in asdict(own).items() if key not in ("se", "prompts")},
        "categories": {name: it.mean for name, it in categories.items()},
        "seconds": done.seconds / done.images if done and done.images else None,
        "truncated": done.truncated if done else 0,
        "mark": mark_of(ranking, evaluation) if ranking else "",
        "finished": evaluation.finished.isoformat(timespec="seconds")
        if evaluation.finished
        else "",
        "scores": [table.get(it.id) for it in prompts],
    }


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
