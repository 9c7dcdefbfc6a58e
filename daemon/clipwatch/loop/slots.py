"""Which run has which slot, and the evaluator that runs there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.messages import Reply


@dataclass(frozen=True, slots=True)
class Heard:
    """Message: an evaluator's reply; `evaluator` tells which of a run's, from 1."""

    evaluator: int
    reply: Reply


class Pool:
    """Lends each slot to one run at a time.

    Who waits for one gets it by priority, and among equals in the order of asking: as a run asks
    anew for each checkpoint, equals take turns.

    Args:
        wake: Called when some run may have to act: one waits for a slot, or one is free again.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._lent: dict[str, str] = {}  # slot → run
        self._waiting: dict[str, frozenset[str]] = {}  # run → slots that would do, first come first
        self._ranks: dict[str, int] = {}  # run → its priority, if it is not 0

    def rank(self, run: str, priority: int) -> None:
        """Give a run a priority from here on; higher ones go before lower ones."""
        self._ranks[run] = priority
        self._order()

    def lend(self, run: str, slots: Sequence[Slot]) -> Slot | None:
        """Return the first slot that is free for a run; None while others have them, or are first.

        A run that gets none waits for its turn until `withdraw`.
        """
        for slot in slots:
            if self._free(run, slot.name):
                self._lent[slot.name] = run
                self.withdraw(run)
                return slot
        if run not in self._waiting:
            self._waiting[run] = frozenset(slot.name for slot in slots)
            self._order()
            self._wake()
        return None

    def due(self, run: str) -> bool:
        """Whether asking is worth while: a run that waits has its turn."""
        return run not in self._waiting or any(self._free(run, it) for it in self._waiting[run])

    def contested(self, run: str, *, wanted: bool = False) -> bool:
        """Whether others wait for a slot that a run has, and can take no other.

        Args:
            run: Has the slot.
            wanted: It would use the slot itself: then those of a lower priority do not count.
        """
        own = {slot for slot, holder in self._lent.items() if holder == run}
        return any(
            own & slots and not self.due(other)
            for other, slots in self._waiting.items()
            if not wanted or self._rank(other) >= self._rank(run)
        )

    @property
    def waiting(self) -> tuple[str, ...]:
        """The runs that wait for a slot, in the order in which they get one."""
        return tuple(self._waiting)

    def wanted(self, slot: str) -> bool:
        """Whether a run waits for a slot."""
        return any(slot in slots for slots in self._waiting.values())

    @property
    def stirred(self) -> set[str]:
        """The runs that may have to act: they can have a slot, or have one that others want."""
        holders = {it for it in self._lent.values() if self.contested(it)}
        return holders | {it for it in self._waiting if self.due(it)}

    def give_back(self, run: str) -> None:
        """Take back what was lent to a run."""
        self._lent = {slot: holder for slot, holder in self._lent.items() if holder != run}
        if self._waiting:
            self._wake()

    def withdraw(self, run: str) -> None:
        """Let a run wait no more."""
        if self._waiting.pop(run, None) is not None and self._waiting:
            self._wake()

    def _free(self, run: str, slot: str) -> bool:
        if slot in self._lent:
            return False
        first = next((it for it, wanted in self._waiting.items() if slot in wanted), run)
        return first == run or (run not in self._waiting and self._rank(run) > self._rank(first))

    def _rank(self, run: str) -> int:
        return self._ranks.get(run, 0)

    def _order(self) -> None:
        """Let the higher stand before the lower; sorting leaves equals as they are."""
        ordered = sorted(self._waiting.items(), key=lambda it: -self._rank(it[0]))
        self._waiting = dict(ordered)


class Seat:
    """A run's place at an executor: the slot that it has, and the evaluator there.

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
        self.slot: Slot | None = None
        self.evaluator: EvaluatorHandle | None = None
        self._run = run
        self._pool = pool
        self._send = send
        self._started = 0

    def contested(self, *, wanted: bool) -> bool:
        """Whether other runs wait for the slot, and are to have it, `wanted` here or not."""
        return self._pool.contested(self._run, wanted=wanted)

    def current(self, message: Heard) -> bool:
        """Whether it comes from the evaluator that is there: these may be an ended one's words."""
        return self.evaluator is not None and message.evaluator == self._started

    def take(self) -> Refusal | None:
        """Have an evaluator, if there is a slot: it is free, and it is our turn.

        Returns:
            Why nothing may be used now.

        Raises:
            OSError: None can be started.
        """
        if self.evaluator is not None and not self.evaluator.alive:
            self.leave()  # which closes what is left of it
        if self.evaluator is not None or not self._pool.due(self._run):
            return None
        slots = self.executor.slots()
        if isinstance(slots, Refusal):
            self._pool.withdraw(self._run)
            return slots
        if slot := self._pool.lend(self._run, slots):
            self._started += 1
            number = self._started
            try:
                self.evaluator = self.executor.start(
                    slot, lambda reply: self._send(Heard(number, reply))
                )
            except OSError:
                self._pool.give_back(self._run)
                raise
            self.slot = slot
        return None

    def wait_no_more(self) -> None:
        """Leave the slot to others, if we only wait for one."""
        self._pool.withdraw(self._run)

    def leave(self) -> None:
        """End the evaluator and give the slot back."""
        if self.evaluator is not None:
            self.evaluator.kill()
            self.evaluator = self.slot = None
            self._pool.give_back(self._run)
