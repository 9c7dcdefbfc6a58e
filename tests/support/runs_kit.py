"""Several runs in one daemon: the one slot that they share, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from clipwatch.domain.names import run_id
from clipwatch.executors.base import EvaluatorHandle, Slot
from clipwatch.executors.messages import Evaluate, Reply
from clipwatch.journal import Journal
from clipwatch.journal.projection import read_state
from clipwatch.loop.supervisor import Supervisor
from clipwatch.results import view
from world import ScriptedEvaluator, World


class OneSlot:
    """An executor of one slot: it fails a test that has two evaluators there at once."""

    def __init__(self, name: str = "the only one") -> None:
        self.name = name
        self.requests: list[str] = []
        self.script: Callable[[Evaluate], list[Reply] | None] = lambda _: None
        self.started: list[ScriptedEvaluator] = []

    def slots(self) -> tuple[Slot, ...]:
        """Return the slot."""
        return (Slot(self.name, "cpu"),)

    def start(self, _: Slot, receive: Callable[[Reply], None]) -> EvaluatorHandle:
        """Start an evaluator, if the one before has ended."""
        assert not any(it.alive for it in self.started)
        self.started.append(ScriptedEvaluator(receive, self._answer))
        return self.started[-1]

    def reads(self, _: Path) -> bool:
        """All of it."""
        return True

    def _answer(self, request: Evaluate) -> list[Reply] | None:
        place = Path(request.path)
        self.requests.append(f"{place.parent.parent.name}/{place.name.partition('-')[2]}")
        return self.script(request)


def states(world: World) -> dict[int, str]:
    """Return step → state of a run, whichever others are in its log."""
    if not world.log.exists():
        return {}
    run = read_state(world.log).get(run_id(world.output))
    return {row.step: row.state for row in view.rows(run)} if run else {}


def watching(supervisor: Supervisor, runs: list[World], stack: ExitStack) -> Supervisor:
    """Have a daemon watch these runs, each with its log, or all with one."""
    journals = {log: stack.enter_context(Journal(log)) for log in {it.log for it in runs}}
    for world in runs:
        world.watch(supervisor, journals[world.log])
    return supervisor
