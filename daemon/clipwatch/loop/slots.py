"""Which run has which slot, and the evaluator that runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

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

    A run may have several. One that has some, and could use more, takes none that another waits
    for, and asks nobody but an idle one for its own.

    Args:
        wake: Called when some run may have to act: one waits for a slot, or one is free again.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._lent: dict[str, str] = {}  # slot → run
        self._waiting: dict[str, frozenset[str]] = {}  # run → slots that would do, first come first
        self._wishing: dict[str, frozenset[str]] = {}  # the same of those that have one already
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
        wanting = self._wishing if run in self._lent.values() else self._waiting
        if run not in wanting:
            wanting[run] = frozenset(slot.name for slot in slots)
            self._order()
            self._wake()
        return None

    def due(self, run: str) -> bool:
        """Whether asking is worth while: a run that waits has its turn."""
        wanted = self._waiting.get(run) or self._wishing.get(run)
        return wanted is None or any(self._free(run, it) for it in wanted.difference(self._lent))

    def contested(self, run: str, slot: str = "", *, idle: bool = False) -> bool:
        """Whether others wait for a slot that a run has, and can take no other.

        Args:
            run: That has it.
            slot: Which one, "" for any.
            idle: The run has no use for it: then those of a lower priority may have it, too, and
                those that have some of their own.
        """
        own = {it for it, holder in self._lent.items() if holder == run and slot in ("", it)}
        least = self._rank(run)
        waiting = (it for it in self._waiting.items() if idle or self._rank(it[0]) >= least)
        others = chain(waiting, self._wishing.items() if idle else ())  # the first one will do
        return any(
            other != run and not own.isdisjoint(wanted) and not self.due(other)
            for other, wanted in others
        )

    @property
    def waiting(self) -> tuple[str, ...]:
        """The runs that wait for a slot and have none, in the order in which they get one."""
        return tuple(self._waiting)

    def wanted(self, slot: str) -> bool:
        """Whether a run waits for a slot."""
        return any(slot in slots for slots in (*self._waiting.values(), *self._wishing.values()))

    def stirred(self, idle: Callable[[str], bool]) -> set[str]:
        """Return the runs that may have to act: they can have a slot, or others want an idle one.

        Args:
            idle: Whether a run has a slot of which it makes no use: of hundreds few have.
        """
        first = {wanted: run for run, wanted in reversed(self._waiting.items())}
        found = {it for it in (*first.values(), *self._wishing) if self.due(it)}
        return found | {
            it for it in {*self._lent.values()} if idle(it) and self.contested(it, idle=True)
        }

    def give_back(self, run: str, slot: str = "") -> None:
        """Take back a slot that was lent to a run, "" for all of its slots."""
        given = [it for it, holder in self._lent.items() if holder == run and slot in ("", it)]
        for it in given:
            del self._lent[it]
        if run in self._wishing and run not in self._lent.values():  # it has none any more
            self._waiting[run] = self._wishing.pop(run)
            self._order()
        if self._waiting or self._wishing:
            self._wake()

    def withdraw(self, run: str) -> None:
        """Let a run wait no more."""
        self._wishing.pop(run, None)
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
    """A place of a run at an executor: the slot that it has, and the evaluator there.

    Args:
        run: Its name.
        executor: Which has the slots.
        pool: Which lends them.
        send: Takes what the evaluators say, from any thread.
        numbers: Tell the run's evaluators apart; several places of a run share them.
    """

    def __init__(
        self,
        run: str,
        executor: Executor,
        pool: Pool,
        send: Callable[[Heard], None],
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.executor = executor
        self.slot: Slot | None = None
        self.evaluator: EvaluatorHandle | None = None
        self._run = run
        self._pool = pool
        self._send = send
        self._numbers = numbers or count(1)
        self._number = 0

    def current(self, message: Heard) -> bool:
        """Whether it comes from the evaluator that is there: these may be an ended one's words."""
        return self.evaluator is not None and message.evaluator == self._number

    def contested(self, *, idle: bool = False) -> bool:
        """Whether other runs wait for the slot, as Pool.contested."""
        return self.slot is not None and self._pool.contested(self._run, self.slot.name, idle=idle)

    def take(self, listed: Sequence[Slot] | Refusal | None = None) -> Refusal | None:
        """Have an evaluator, if there is a slot: it is free, and it is our turn.

        Args:
            listed: What the executor told just now; None to ask it.

        Returns:
            Why nothing may be used now.

        Raises:
            OSError: None can be started.
        """
        if self.evaluator is not None and not self.evaluator.alive:
            self.leave()  # which closes what is left of it
        if self.evaluator is not None or not self._pool.due(self._run):
            return None
        slots = self.executor.slots() if listed is None else listed
        if isinstance(slots, Refusal):
            self._pool.withdraw(self._run)
            return slots
        if slot := self._pool.lend(self._run, slots):
            self._number = number = next(self._numbers)
            try:
                self.evaluator = self.executor.start(
                    slot, lambda reply: self._send(Heard(number, reply))
                )
            except OSError:
                self._pool.give_back(self._run, slot.name)
                raise
            self.slot = slot
        return None

    def leave(self) -> None:
        """End the evaluator and give the slot back."""
        if self.evaluator is not None and self.slot is not None:
            self.evaluator.kill()
            self._pool.give_back(self._run, self.slot.name)
            self.evaluator = self.slot = None
