"""The places that a run has at an executor: as many as there is work for, and slots to be had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

from clipwatch.executors.base import Executor, Refusal
from clipwatch.loop.slots import Heard, Pool, Seat

LOOK_SECONDS = 30.0
"""Pause before an executor is asked for more slots than it told, or could start evaluators in."""


class Seats:
    """Takes places and leaves them; used from the loop's thread.

    Args:
        run: Its name.
        executor: Which has the slots.
        pool: Which lends them.
        send: Takes what the evaluators say, from any thread.
    """

    def __init__(
        self, run: str, executor: Executor, pool: Pool, send: Callable[[Heard], None]
    ) -> None:
        self.executor = executor
        self._run = run
        self._pool = pool
        self._send = send
        self._numbers = count(1)
        self._seats: list[Seat] = []
        self._told = 0  # how many slots there were when that was asked last
        self._asked: float | None = None  # when, by the clock that nobody sets

    def __iter__(self) -> Iterator[Seat]:
        """Yield those that are taken; they may be left meanwhile."""
        return iter([it for it in self._seats if it.evaluator is not None])

    @property
    def in_turn(self) -> bool:
        """Whether a slot may be had, if there is one: others are not waited for."""
        return self._pool.due(self._run)

    def of(self, message: Heard) -> Seat | None:
        """Return the one whose evaluator says something; None for one that was ended."""
        return next((it for it in self if it.current(message)), None)

    def room(self, most: int | None) -> int:
        """Return how many there may be, by what is known; `most` is None for all that there are."""
        return max(1, self._told) if most is None else most

    def look(self, most: int | None) -> int:
        """Return the same, and ask now and then where only the executor knows."""
        if most is None and self._long_ago:
            self._asked = time.monotonic()
            listed = self.executor.slots()
            self._told = 0 if isinstance(listed, Refusal) else len(listed)
        return self.room(most)

    def take(self, more: int, most: int | None) -> Refusal | None:
        """Have some more, as far as there are slots; never more than `most` in all.

        The executor is asked as seldom as that may bring news.

        Returns:
            Why nothing may be used now, if there is none at all.

        Raises:
            OSError: No evaluator can be started, and there is none.
        """
        self._seats = have = list(self)
        if not (more and self._may_ask(len(have))):
            return None
        self._asked = time.monotonic()
        listed = self.executor.slots()
        if isinstance(listed, Refusal):
            self._pool.withdraw(self._run)
            return None if have else listed
        self._told = len(listed)
        bound = len(listed) if most is None else min(most, len(listed))
        for _ in range(min(more, bound - len(have))):
            seat = Seat(self._run, self.executor, self._pool, self._send, self._numbers)
            try:
                seat.take(listed)
            except OSError:
                if not self._seats:
                    raise
                self._told = len(self._seats)  # with which we go on
                break
            if seat.evaluator is None:  # others have it: our turn will come
                break
            self._seats.append(seat)
        return None

    def _may_ask(self, have: int) -> bool:
        """Whether asking may bring more: there were more, or that is long ago.

        While we wait for one that others have, the pool says when to.
        """
        if not self.in_turn:
            return False
        return have < max(1, self._told) or self._long_ago

    @property
    def _long_ago(self) -> bool:
        return self._asked is None or time.monotonic() - self._asked >= LOOK_SECONDS

    def leave(self, seat: Seat) -> None:
        """End its evaluator and give its slot back, which may be had again at once."""
        seat.leave()
        self._asked = None

    def leave_all(self) -> None:
        """Do so with all."""
        for seat in self:
            self.leave(seat)
        self._told = 0

    def wait_no_more(self) -> None:
        """Leave to others the slots for which we only wait."""
        self._pool.withdraw(self._run)
