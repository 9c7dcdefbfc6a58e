"""What a person asks of the state: what became of each checkpoint, and what stands in its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from clipwatch.domain.decided import Decision, Estimate, EvaluationOutdone
from clipwatch.domain.delivered import more_shown, owed, received
from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.kinds import Unit
from clipwatch.domain.questions import Answered
from clipwatch.domain.queue import DELETED, pending
from clipwatch.domain.state import (
    BASE_NAME,
    Checkpoint,
    Evaluation,
    Run,
    evaluation_of,
    protocols_of,
)
from clipwatch.domain.strengths import ascending, title
from clipwatch.results.decisions import outdone as told_of
from clipwatch.results.figures import plural
from clipwatch.statistics import Summary

RowState = Literal["waiting", "evaluating", "scored", "published", "failed", "discarded"]

STATES: tuple[RowState, ...] = get_args(RowState)

IN_QUEUE = "in the queue"

WORDS = {"discarded": "left out"}
"""How a state is called to a person where its name could be misread: nobody deletes anything."""


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint for a person; `step` counts `unit`s.

    Where a run has several strengths, an adapter has a row for each. `time`: when it was scored,
    or taken up, else since when it is as it is; None where the log does not tell. `skipped`: it was
    left out as newer ones came, and can be had back. `decision` and `estimate` as in
    EvaluationCompleted, and so is `answered`. `losses` are those on fixed images by the tags that
    trackers show, None where none were asked for, empty where there are none. `outdone`: why no
    more images are made.
    """

    step: int
    name: str
    state: RowState
    clip: Summary | None
    published: dict[str, bool]
    reason: str | None
    unit: Unit = "step"
    strength: float | None = None
    time: datetime | None = None
    skipped: bool = False
    decision: Decision | None = None
    estimate: Estimate | None = None
    losses: Mapping[str, float] | None = None
    answered: Mapping[str, Answered] = field(default_factory=dict)
    outdone: EvaluationOutdone | None = None

    @property
    def is_base(self) -> bool:
        """It is none of the training: the base model alone."""
        return self.name == BASE_NAME


BRINGS_THEM_IN = "clipwatch import brings them in from the log that has them"
"""What can be done about results that only a tracker has."""


def rows(run: Run) -> list[Row]:
    """Return a run's checkpoints in the order of their steps, under its present protocols."""
    shown = _shown(run)
    firsts = {it: first_measured(run, it) for it in run.present}
    listed = sorted(_listed(run), key=lambda it: (it[0].step, it[0].name))
    return [_row(run, *it, shown, firsts) for it in listed]


def first_measured(run: Run, protocol: str) -> str:
    """Return what the first losses of a curve were measured on (see `Losses.tags`), "" for none."""
    measured = (run.evaluations[it].losses for it in run.scored.get(protocol, ()))
    return next((it.by for it in measured if it and it.by), "")


def states(run: Run) -> list[tuple[str, RowState]]:
    """Return name and state of each of `rows` in any order, sooner: there may be thousands."""
    shown = _shown(run)
    everywhere = set.intersection(*map(set, shown.values())) if shown else ()
    found: list[tuple[str, RowState]] = []
    for checkpoint, _, known in _listed(run):
        done = known is not None and known.state == "scored" and known.id in everywhere
        state = "published" if done else _state(run, checkpoint, known, shown)[0]
        found.append((checkpoint.name, state))
    return found


Listed = tuple[Checkpoint, str | None, Evaluation | None]
"""A checkpoint, at which of several strengths (its protocol, None for the only one), and how."""


def _listed(run: Run) -> Iterator[Listed]:
    """Yield what each row is of."""
    known, present = run.evaluations, ascending(run, run.present)
    done = {it: [known[id_] for id_ in run.scored.get(it, ())] for it in present}
    # a score outlives its folder
    latest = {it: {each.checkpoint: each for each in found} for it, found in done.items()}
    for checkpoint in run.checkpoints.values():
        name = checkpoint.name
        if checkpoint.state == "discarded" and not checkpoint.skipped:
            found = {it: latest[it].get(name) for it in present if name in latest[it]}
        else:
            wanted = protocols_of(run, checkpoint)
            found = {it: evaluation_of(run, checkpoint, it) for it in present if it in wanted}
            if checkpoint.skipped:  # at all strengths, but for what an import brought
                found = {it: evaluation for it, evaluation in found.items() if evaluation}
        several = len(found) > 1 or run.protocol not in found
        for protocol, evaluation in found.items():
            yield checkpoint, protocol if several else None, evaluation
        if not found:
            yield checkpoint, None, None


Shown = Mapping[str, AbstractSet[str]]
"""Tracker → the evaluations that it shows."""


def _shown(run: Run) -> Shown:
    return {name: received(run, "tracker", name).has for name in run.tracker_names}


def _row(
    run: Run,
    checkpoint: Checkpoint,
    protocol: str | None,
    evaluation: Evaluation | None,
    shown: Shown,
    firsts: Mapping[str, str],
) -> Row:
    id_ = evaluation.id if evaluation else ""
    published = {name: id_ in there for name, there in shown.items()}
    state, reason = _state(run, checkpoint, evaluation, shown)
    clip = evaluation.clip if evaluation else None
    at = None if protocol is None else run.protocols[protocol].adapter_strength
    numbers = (state, clip, published, reason or None)
    of = (checkpoint, evaluation)
    skipped = state == "discarded" and checkpoint.skipped
    told = (checkpoint.unit, at, _time(*of), skipped)
    done = evaluation.completed if evaluation else None
    found = (done.decision, done.estimate) if done else (None, None)
    losses = None
    if evaluation and (measured := evaluation.losses):
        losses = measured.tags(firsts[evaluation.protocol] or measured.by)
    answered = done.answered if done else {}
    outdone = evaluation.outdone if evaluation and evaluation.state == "outdone" else None
    beside = losses, answered
    return Row(checkpoint.step, checkpoint.name, *numbers, *told, *found, *beside, outdone)


def _time(checkpoint: Checkpoint, evaluation: Evaluation | None) -> datetime | None:
    if evaluation is None:
        return checkpoint.since
    begun = evaluation.course.since if evaluation.course else None
    return evaluation.finished or begun


def _state(
    run: Run, checkpoint: Checkpoint, evaluation: Evaluation | None, shown: Shown
) -> tuple[RowState, str]:
    if evaluation is not None and evaluation.state == "scored":
        return _published(run, evaluation, shown)
    if checkpoint.state != "whole":
        return "waiting" if checkpoint.state == "partial" else "discarded", checkpoint.reason
    if evaluation is None:
        return "waiting", IN_QUEUE
    if evaluation.state == "outdone" and (found := evaluation.outdone):
        return "discarded", told_of(found, title(run, found.by))
    if evaluation.state == "failed":
        again = f"to be tried again, failed: {evaluation.reason}"
        return ("failed", evaluation.reason) if evaluation.given_up else ("waiting", again)
    made = run.protocols.get(evaluation.protocol)
    total = f" of {len(made.prompts) * made.images_per_prompt}" if made else ""
    return "evaluating", f"{len(evaluation.done)}{total} images scored"


def _published(run: Run, evaluation: Evaluation, shown: Shown) -> tuple[RowState, str]:
    lacking = [name for name, there in shown.items() if evaluation.id not in there]
    if shown and not lacking:
        return "published", ""
    reasons = {name: _reason(run, name, evaluation.protocol) for name in lacking}
    return "scored", "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)


def _reason(run: Run, tracker: str, protocol: str) -> str:
    return received(run, "tracker", tracker).trial(protocol).reason


def earlier(run: Run) -> list[str]:
    """Return a line for each tracker that does not show what was scored under earlier settings."""
    lines = []
    for name in run.tracker_names:
        lacks = owed(run, "tracker", name)
        lacks = {it: ids for it, ids in lacks.items() if it not in run.present}
        if count := sum(map(len, lacks.values())):
            told = f"{name}: {count} result{'s' * (count > 1)} of earlier settings not shown there"
            reasons = dict.fromkeys(_reason(run, name, it) for it in lacks)
            lines.append(": ".join((told, *filter(None, reasons))))
    return lines


def moved(run: Run) -> str:
    """Say which run an output directory was recognised as that has another path than before."""
    count = sum(map(len, run.scored.values()))
    what = (
        f"its {plural(count, 'result')} {'goes' if count == 1 else 'go'} on"
        if count
        else "it goes on"
    )
    return f"recognised as the run {run.name}, which was in {run.output_dir}: {what}"


def beyond(run: Run) -> list[str]:
    """Return a line for each tracker that shows results of this run that the log lacks."""
    lines = []
    for name in run.tracker_names:
        if count := sum(map(len, more_shown(run, name).values())):
            told = f"{name}: shows {plural(count, 'result')} that this log lacks"
            lines.append(f"{told}; {BRINGS_THEM_IN}")
    return lines


def advice(run: Run) -> list[AdviceGiven]:
    """Return what was advised under the run's present protocols, in the order of its giving."""
    mine = {id_ for protocol in run.present for id_ in run.scored.get(protocol, ())}
    return [it for it in run.advice if it.evaluation in mine]


def problems(run: Run) -> list[str]:
    """Return what stands in the way of the whole run, a line each."""
    known = (
        (name, _reason(run, name, it)) for name in sorted(run.tracker_names) for it in run.present
    )
    trackers = list(dict.fromkeys(f"{name}: {why}" for name, why in known if why))
    none = f"no checkpoint seen in {run.output_dir} so far"
    trained = any(not checkpoint.is_base for checkpoint in run.checkpoints.values())
    models = [f"nothing can be scored: {run.lacking}"] if run.lacking else []
    return (
        [run.problem or none] * bool(run.problem or not trained) + models + trackers + earlier(run)
    )


def summary(run: Run) -> str:
    """Return how many checkpoints are in which state, where they have several at each strength."""
    listed = [it for it in states(run) if it[0] != BASE_NAME]
    names, count = {name for name, _ in listed}, Counter(state for _, state in listed)
    counts = ", ".join(f"{count[it]} {WORDS.get(it, it)}" for it in STATES if count[it])
    several = run.beside and any(protocol for _, protocol, _ in _listed(run))
    at = f" at {len(run.present)} strengths" if several else ""
    return f"{plural(len(names), 'checkpoint')}{at}: {counts}" if listed else problems(run)[0]


def unread(run: Run, lying: str) -> str:
    """Return what there is where no checkpoint could be read at all, "" where one was.

    Args:
        run: Its run.
        lying: What its directory holds that is passed over.
    """
    if any(not it.of_base and it.state == "scored" for it in run.evaluations.values()):
        return ""
    trained = [it for it in run.checkpoints.values() if not it.is_base]
    if any(it.state != "discarded" or it.skipped for it in trained):
        return ""
    left = {it.name: it.reason for it in trained if not it.reason.startswith(DELETED)}
    told = [f"{name}: {reason}" for name, reason in list(left.items())[:1]]
    more = [f"{len(left) - 1} more are left out"] if len(left) > 1 else []
    return "; ".join(filter(None, (*told, *more, lying)))


def closing(run: Run, lacking: Sequence[str], unread: str = "") -> tuple[int, list[str]]:
    """Return the exit code of a daemon that has nothing left to do, and what it says.

    Args:
        run: Its run.
        lacking: The trackers that do not show everything.
        unread: What there is where no checkpoint could be read.
    """
    whole = [c for c in run.checkpoints.values() if c.state == "whole"]
    evaluations = [evaluation_of(run, c, it) for c in whole for it in protocols_of(run, c)]
    failed = [title(run, it.id) for it in evaluations if it is not None and it.state == "failed"]
    if run.lacking:
        waiting = dict.fromkeys(title(run, it.id) for it in pending(run))
        failed += [it for it in waiting if it not in failed]
    lines = [summary(run)]
    if failed:
        lines.append(f"no score for {', '.join(failed)}: clipwatch status says why")
    elif run.lacking:  # all that is there has its score, but under earlier settings
        lines.append("nothing can be scored: clipwatch status says why")
    if lacking:
        lines.append(f"not everything is published to {', '.join(lacking)}")
    if unread:
        lines.append(f"nothing was scored, as nothing there is understood: {unread}")
    return int(bool(failed or lacking or run.lacking or unread)), lines
