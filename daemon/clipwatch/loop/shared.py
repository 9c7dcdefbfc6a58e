"""What the runs of one daemon have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipwatch.judging.base import Judge
from clipwatch.loop.handing import Idlers
from clipwatch.loop.judgements import Bench
from clipwatch.loop.slots import Pool
from clipwatch.service.health.desk import Desk


@dataclass(frozen=True, slots=True)
class Shared:
    """Slots, addresses and judges: one of each for however many runs.

    Attributes:
        pool: Lends the slots for evaluations.
        idlers: Has the evaluators that go from run to run.
        desk: Has the addresses at which health is asked for.
    """

    pool: Pool
    idlers: Idlers
    desk: Desk = field(default_factory=Desk)
    _benches: dict[int, tuple[Judge, Bench]] = field(default_factory=dict)

    def bench(self, judge: Judge) -> Bench:
        """Return what has a judge asked, in one thread for all runs that have this judge."""
        return self._benches.setdefault(id(judge), (judge, Bench(judge)))[1]

    def close(self) -> None:
        """Let go of all, when no run is left."""
        for _, bench in self._benches.values():
            bench.close()
        self.idlers.close()
        self.desk.close()
