"""What a run has in hand: attempts at evaluations, and which evaluator has which share of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from clipwatch.domain.state import CheckpointKey
from clipwatch.loop.attempt import Attempt, Share
from clipwatch.loop.run_log import RunLog
from clipwatch.loop.seats import Seats
from clipwatch.loop.slots import Seat


@dataclass(frozen=True, slots=True)
class Hand:
    """Attempts and their shares; used from the loop's thread.

    Attributes:
        log: Says what is in hand.
        seats: Where it is.
        attempts: By evaluation, in the order in which they were begun.
        shares: Those of these attempts, and such as nobody wants any more.
    """

    log: RunLog
    seats: Seats
    attempts: dict[str, Attempt] = field(default_factory=dict)
    shares: dict[Seat, Share] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[CheckpointKey]:
        """The checkpoints that are in hand."""
        return frozenset(it.job.key for it in self.attempts.values())

    @property
    def of_base(self) -> bool:
        """Whether the base model alone is among them."""
        return any(it.job.checkpoint.is_base for it in self.attempts.values())

    def idle(self) -> list[Seat]:
        """Return where nothing is in hand; one whose evaluator has ended meanwhile is left."""
        found = [it for it in self.seats if it not in self.shares]
        for seat in found:
            if seat.evaluator is not None and not seat.evaluator.alive:
                self.seats.leave(seat)
        return [it for it in found if it.evaluator is not None]

    def of(self, attempt: Attempt) -> list[Seat]:
        """Return where an attempt's shares are."""
        return [
            seat
            for seat, share in self.shares.items()
            if share.attempt is attempt and not share.unwanted
        ]

    def silent(self, seconds: float) -> Iterator[tuple[Seat, Share]]:
        """Yield what shows no sign of life for longer than that."""
        for seat, share in tuple(self.shares.items()):
            if share.evaluator.silent_seconds > seconds:
                yield seat, share

    def put(self, seat: Seat, share: Share) -> None:
        """Have a share in hand; its attempt as well, if it is the first."""
        self.attempts[share.attempt.job.id] = share.attempt
        self.shares[seat] = share
        for it in self.shares.values():
            it.beside = max(it.beside, len(self.shares))

    def end(self, seat: Seat) -> None:
        """Have a share in hand no more."""
        self.log.rested(self.shares.pop(seat).place)

    def drop(self, attempt: Attempt, *, leave: bool = False) -> None:
        """Have an attempt in hand no more.

        Args:
            attempt: Which one.
            leave: End the evaluators that work on it; else each ends its batch, and is idle then.
        """
        self.log.rested(attempt.job.title)
        self.attempts.pop(attempt.job.id, None)
        for seat in self.of(attempt):
            if leave:
                self.end(seat)
                self.seats.leave(seat)
            else:
                self.shares[seat].unwanted = True

    def clear(self) -> None:
        """Have nothing in hand any more, and no place, nor wait for one."""
        for attempt in tuple(self.attempts.values()):
            self.drop(attempt, leave=True)
        for seat in tuple(self.shares):  # of what nobody wants
            self.end(seat)
        self.seats.wait_no_more()
        self.seats.leave_all()
