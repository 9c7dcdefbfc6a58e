"""How an evaluation stands that came to no result, or is to go on; a part of the fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import EvaluationFailed, EvaluationReopened
from clipwatch.domain.retries import CRAMPED
from clipwatch.domain.state import Evaluation


def without_result(
    known: Mapping[str, Evaluation],
    event: EvaluationFailed | EvaluationOutdone | EvaluationReopened,
) -> Evaluation:
    """Return the event's evaluation after it.

    Raises:
        KeyError: Nobody knows it.
    """
    before = known[event.evaluation]
    match event:
        case EvaluationFailed():
            return replace(
                before,
                state="failed",
                kind=event.kind,
                reason=event.reason,
                attempt=event.attempt,
                retry_at=event.retry_at,
                cramped=before.cramped + (event.kind in CRAMPED),
                course=None,
            )
        case EvaluationOutdone():
            return replace(before, state="outdone", outdone=event, course=None)
        case EvaluationReopened(time=when):
            going = replace(before, attempt=0, cramped=0, retry_at=when)
            return replace(going, state="running") if before.state == "outdone" else going
