"""Looks now and then whether there is a slot for what waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from clipwatch.domain.events import EvaluationReopened
from clipwatch.domain.queue import pending
from clipwatch.executors.base import Executor, Refusal
from clipwatch.loop.run_log import RunLog

SLOT_SECONDS = 30.0
"""Pause between two looks while evaluations wait."""


class Vacancies:
    """Knows when an executor was looked at last; used from the loop's thread.

    Args:
        log: Gets what may go on.
        clock: The time, in UTC.
    """

    def __init__(self, log: RunLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock
        self._looked: float | None = None  # by the clock that nobody sets

    def reset(self) -> None:
        """Look as for the first time: the settings are others."""
        self._looked = None

    def look(self, executor: Executor) -> None:
        """Say at first if no slot may be used; later, let what waits for one go on if one may."""
        run, now, moment = self._log.run, self._clock(), time.monotonic()
        first = self._looked is None
        if self._looked is not None and moment - self._looked < SLOT_SECONDS:
            return
        self._looked = moment
        known = (run.evaluations.get(it.id) for it in pending(run))
        waiting = [
            it for it in known if it and it.kind == "device" and it.retry_at and it.retry_at > now
        ]
        if not first and not waiting:
            return
        slots = executor.slots()
        if not isinstance(slots, Refusal):
            for evaluation in waiting:
                again = EvaluationReopened(evaluation.id, now)
                self._log.record_evaluation(evaluation.id, again)
        elif first:
            self._log.say(f"evaluations wait: {slots}")
