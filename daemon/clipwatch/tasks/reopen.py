"""What a person asks to be tried again or had back, beside a running daemon or without one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from clipwatch.domain.events import EvaluationReopened
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.queue import had_back, retryable
from clipwatch.domain.state import Run, State
from clipwatch.domain.strengths import title
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.view import WORDS, rows


def reopen(log: Path, step: int, name: str | None) -> list[str]:
    """Write down that what failed at a step is due, and what was left out is in the queue again.

    Return what a person calls them.

    Args:
        log: The log's file.
        step: The checkpoint's.
        name: The run, or the beginning of its name; None where only one can be meant.

    Raises:
        ClipwatchError: There is nothing to try again; the text says why.
    """
    if not log.exists():
        raise ClipwatchError(
            f"there is no log in {log.parent}", fix="name the folder with --state-dir"
        )
    with Journal(log) as journal:
        projection = Projection(journal)
        run = _run(projection.state, name)
        back = had_back(run, step)
        projection.record(run.name, f"run/{run.name}", *back)
        failed = retryable(run := projection.state[run.name], step)
        if not (back or failed):
            raise _nothing(run, step)
        for evaluation in failed:
            reopened = EvaluationReopened(evaluation.id, datetime.now(UTC))
            projection.record(run.name, evaluation_stream(run.name, evaluation.id), reopened)
    named = [title(run, evaluation.id) for evaluation in failed]
    return list(dict.fromkeys([*(it.name for it in back), *named]))


def _run(state: State, name: str | None) -> Run:
    if name is not None and name in state:
        return state[name]
    found = [it for it in state if it.startswith(name or "")]
    if name is None:  # a run that never had a checkpoint, of a mistyped folder, is not meant
        found = [it for it in found if state[it].checkpoints] or found
    if len(found) == 1:
        return state[found[0]]
    if not state:
        raise ClipwatchError(
            "the log has no run so far", fix="try again once clipwatch watches one"
        )
    known = ", ".join(state)
    several = name is None or found
    wrong = "more than one run can be meant" if several else f"no run is called {name!r}"
    raise ClipwatchError(wrong, fix=f"name one of these with --run: {known}")


def _nothing(run: Run, step: int) -> ClipwatchError:
    """Say of a step why it is not to be tried again."""
    found = [row for row in rows(run) if row.step == step]
    if not found:
        fix = "clipwatch status lists those that are"
        return ClipwatchError(f"no checkpoint of {run.unit} {step} is known", fix=fix)
    told = [
        f"{row.name} is {WORDS.get(row.state, row.state)}" + f" ({row.reason})" * bool(row.reason)
        for row in found
    ]
    return ClipwatchError(f"nothing to try again: {', '.join(told)}")
