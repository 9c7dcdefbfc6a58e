"""Where the seconds of an evaluation went, measured by whoever spent them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import evaluator_kit as kit
from clipwatch.domain.events import EvaluationCompleted
from clipwatch.evaluator import evaluation, phases, scoring
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.phases import Phases
from clipwatch.evaluator.resident import Resident
from clipwatch.executors.messages import Finished, Reply, Scored
from world import World, checkpoint, usual

NAMES = {"load", "generate", "score", "save"}

pytestmark = kit.QUIET


def test_a_real_evaluation_tells_all_four(tmp_path: Path) -> None:
    """The first loads both models, the second has them: both tell all, and no thread more."""
    world = kit.write_world(tmp_path / "world")
    evaluator = Evaluator()
    for name in ("lora", "other-lora"):
        how = kit.protocol(world / "base")
        asked = kit.request(world / name, "lora", how, images=tmp_path / name, batch_size=3)
        finished = kit.replies_of(evaluator, asked)[-1]
        assert isinstance(finished, Finished)
        assert set(finished.phases) == NAMES
        assert all(seconds > 0 for seconds in finished.phases.values())
        assert sum(finished.phases[name] for name in ("load", "generate")) <= finished.seconds
        assert sum(finished.phases[name] for name in ("score", "save")) <= finished.seconds


class Clock(threading.local):
    """A time that passes only where it is told to, and in each thread by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (evaluation, phases):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def taking(self, seconds: float, result: Any = None) -> Any:
        """Return a function that takes so long; a callable result is called for its own."""

        def work(*arguments: Any, **_: Any) -> Any:
            self.now += seconds
            return result(*arguments) if callable(result) else result

        return work


@pytest.mark.parametrize(("done", "batches"), [(0, 2), (4, 0)])
def test_each_second_is_told_where_it_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, batches: int
) -> None:
    """Loading once, the others for each batch or image; waiting for the daemon is in none."""
    clock = Clock(monkeypatch)
    picture = torch.zeros(2, 2, 3, dtype=torch.uint8)
    generator = SimpleNamespace(
        commit="",
        decoding="whole",
        generate=clock.taking(10, lambda prompts, *_: torch.stack([picture] * len(prompts))),
    )
    scorer = SimpleNamespace(
        commit="",
        told="100",
        score=clock.taking(3, lambda images, _: [0.3] * len(images)),
        prepare=clock.taking(1, 0),
    )
    monkeypatch.setattr(Resident, "load", clock.taking(100, ({"": scorer}, generator)))
    monkeypatch.setattr(scoring, "save_image", clock.taking(0.5))
    monkeypatch.setattr(evaluation, "verify", clock.taking(1))
    how = kit.protocol(tmp_path)
    tasks = [(prompt.id, index) for prompt, index, _ in how.images()]
    asked = kit.request(
        *(tmp_path, "lora", how), images=tmp_path, batch_size=2, done=tuple(tasks[:done])
    )
    replies: list[Reply] = []

    def send(reply: Reply) -> None:
        clock.now += 1000 * isinstance(reply, Scored)
        replies.append(reply)

    Evaluator().evaluate(asked, send)
    expected = {
        "load": 100.0,
        "generate": 10.0 * batches,
        "score": 3.0 * batches,
        "save": 0.5 * 2 * batches,
    }
    # saving, and what the daemon takes, are another thread's
    assert replies[-1] == Finished(0, 102 + 13 * batches, expected, made={"vae": "whole"})


def test_what_failed_is_not_counted() -> None:
    """A phase that ends in an error ends the evaluation: nothing tells of its seconds."""
    found = Phases()
    with pytest.raises(ValueError, match="no"), found.phase("load"):
        raise ValueError("no")
    assert found.seconds == dict.fromkeys(NAMES, 0.0)


def test_the_log_keeps_them(tmp_path: Path) -> None:
    """As the evaluator reported them, and added up over the run."""
    world = World(tmp_path)
    told = {"load": 1.0, "generate": 6.0, "score": 0.5, "save": 0.25}
    world.script = lambda request: [*usual(request)[:-1], Finished(0, 8.0, told)]
    for step in (100, 200):
        checkpoint(world.output, step)
    assert world.once() == 0
    completed = [it.event for it in world.logged if isinstance(it.event, EvaluationCompleted)]
    assert [(event.seconds, event.phases) for event in completed] == [(8.0, told)] * 2
    assert world.run.spent == {name: 2 * seconds for name, seconds in told.items()}
