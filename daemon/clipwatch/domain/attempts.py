"""What is written down of an attempt at an evaluation: that it began, and why it failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from clipwatch.domain.events import EvaluationFailed, EvaluationStarted, Event
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.retries import PATIENT, batch_sizes, retry_at
from clipwatch.domain.state import Checkpoint, Run, evaluation_id


def started(
    checkpoint: Checkpoint, protocol: str, environment: Mapping[str, str]
) -> EvaluationStarted:
    """Return the beginning of an attempt under a protocol."""
    id_ = evaluation_id(checkpoint, protocol)
    place = (checkpoint.name, checkpoint.step, checkpoint.digest)
    return EvaluationStarted(id_, *place, protocol, dict(environment))


def failure(
    run: Run,
    checkpoint: Checkpoint,
    protocol: str,
    kind: FailureKind,
    reason: str,
    now: datetime,
    *,
    attempts: int,
    batch_size: int | None,
    luck: float,
) -> list[Event]:
    """Return what an attempt's failure adds to its evaluation, with the time of the next attempt.

    Args:
        run: With the failures before.
        checkpoint: That was to be evaluated.
        protocol: Under which.
        kind: Of the failure.
        reason: A line for a person.
        now: In UTC.
        attempts: After how many it is given up.
        batch_size: The setting.
        luck: In 0..1, spreads the pauses.
    """
    id_ = evaluation_id(checkpoint, protocol)
    evaluation = run.evaluations.get(id_)
    # one that failed before it was loaded has not begun yet
    new: list[Event] = [] if evaluation else [started(checkpoint, protocol, {})]
    patient = kind in PATIENT
    alike = evaluation is not None and (evaluation.kind in PATIENT) == patient
    # to have waited for a GPU or a disk costs none of the attempts
    attempt = 1 + (evaluation.attempt if evaluation and alike else 0)
    largest = max(batch_sizes(run, evaluation, batch_size))
    again = retry_at(kind, attempt, now, attempts=attempts, batch_size=largest, luck=luck)
    return [*new, EvaluationFailed(id_, kind, reason, attempt, again)]
