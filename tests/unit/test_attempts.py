"""What is written down of an attempt that failed, and what is kept from rotation meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.attempts import failure, started
from clipwatch.domain.events import CheckpointCompleted, EvaluationFailed, Event, RunStarted
from clipwatch.domain.fold import evolve
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.queue import Pending, queue, to_keep
from clipwatch.domain.retries import LASTING, PATIENT
from clipwatch.domain.state import Run

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def fold(*events: Event, run: Run | None = None) -> Run:
    """Return the run after these events."""
    return evolve({"r": run} if run else {}, (("r", event, NOW) for event in events))["r"]


def queued(*steps: int) -> Run:
    """Return a run with whole checkpoints."""
    return fold(
        RunStarted("/out", "p" * 16, (), {}, "0"),
        *(
            CheckpointCompleted(step, f"c-{step}", f"/out/c-{step}", "lora", "", (), f"d{step}")
            for step in steps
        ),
    )


def fail(run: Run, kind: FailureKind, attempts: int = 3) -> list[Event]:
    """Fail the first checkpoint."""
    (checkpoint, *_) = queue(run)
    protocol = run.protocol
    return failure(
        *(run, checkpoint, protocol, kind, "why", NOW), attempts=attempts, batch_size=1, luck=0.0
    )


def test_what_failed_before_it_was_loaded_is_begun_first() -> None:
    """So that the fold knows of whom the failure speaks; a later one stands alone."""
    run = queued(1)
    first = fail(run, "device")
    assert first[0] == started(queue(run)[0], run.protocol, {})
    assert isinstance(first[1], EvaluationFailed)
    assert len(first) == 2
    again = fail(fold(*first, run=run), "device")
    assert len(again) == 1


def test_to_have_waited_costs_none_of_the_attempts() -> None:
    """Nor do attempts count for what waits."""
    run = queued(1)
    kinds: list[FailureKind] = ["device", "device", "disk", "model", "model", "device", "model"]
    told = []
    for kind in kinds:
        new = fail(run, kind)
        run = fold(*new, run=run)
        last = new[-1]
        assert isinstance(last, EvaluationFailed)
        told.append(last.attempt)
    assert told == [1, 2, 3, 1, 2, 1, 1]


@pytest.mark.parametrize("kind", ["device", "weights", "model"])
def test_when_it_is_tried_again(kind: FailureKind) -> None:
    """What only waits always is, what lies in the files never, and else so often as is set."""
    (_, first) = fail(queued(1), kind, attempts=2)
    (_, only) = fail(queued(1), kind, attempts=1)
    assert isinstance(first, EvaluationFailed)
    assert isinstance(only, EvaluationFailed)
    again = NOW + timedelta(seconds=30)
    assert first.retry_at == (None if kind in LASTING else again)
    assert only.retry_at == (again if kind in PATIENT else None)


steps = st.lists(st.integers(1, 9), unique=True, max_size=6)


@given(steps, steps, st.none() | st.integers(1, 9), st.integers(1, 4), st.data())
def test_what_is_kept(
    there: list[int], due: list[int], hand: int | None, limit: int, data: st.DataObject
) -> None:
    """What is in hand always, then what is due in its order, then what is kept already.

    Never more than the limit, and nothing twice.
    """
    run = queued(*{*there, *due, *([hand] if hand else [])})
    by_step = {checkpoint.step: checkpoint for checkpoint in queue(run)}
    kept = data.draw(st.sets(st.sampled_from(sorted(by_step)))) if by_step else set()
    keys = {(by_step[step].name, by_step[step].digest) for step in kept}
    found = [
        checkpoint.step
        for checkpoint in to_keep(
            run,
            [by_step[hand]] if hand else [],
            [Pending(by_step[step], run.protocol) for step in due],
            keys,
            limit,
        )
    ]
    assert len(found) == len(set(found)) <= limit
    assert found[:1] == [hand][: hand is not None] or hand is None
    rest = [step for step in found if step != hand]
    urgent = [step for step in due if step in rest]
    assert rest[: len(urgent)] == urgent
    assert set(rest[len(urgent) :]) <= kept
    wanted = {*due[:limit], *kept, *([hand] if hand else [])}
    assert len(found) == min(limit, len(wanted))
