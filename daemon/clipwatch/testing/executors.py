"""What every executor must do, as tests to inherit from."""

from __future__ import annotations

import queue
from typing import Final

import msgspec

from clipwatch.executors.base import EvaluatorHandle, Executor, Refusal, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working

PATIENCE: Final = 120.0
"""Seconds within which the next reply has to come."""


class ExecutorContract:
    """The contract of clipwatch.executors.base.Executor.

    A subclass has the pytest fixtures `executor`, a new one that has a slot free, and `job`,
    an evaluation of two images or more that goes well there.
    """

    def slots(self, executor: Executor) -> tuple[Slot, ...]:
        """Return the slots, of which there are some."""
        slots = executor.slots()
        assert not isinstance(slots, Refusal)
        assert slots
        return slots

    def test_slots_have_names_that_stay(self, executor: Executor) -> None:
        """Each has its own, and the same when asked again."""
        names = [slot.name for slot in self.slots(executor)]
        assert len(set(names)) == len(names)
        assert [slot.name for slot in self.slots(executor)] == names

    def test_an_evaluation_tells_every_image_once(self, executor: Executor, job: Evaluate) -> None:
        """Loaded, the images in batches, Finished; and another request can follow."""
        heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        slot = self.slots(executor)[0]
        evaluator = executor.start(slot, heard.put)
        try:
            for _ in range(2):
                images = told(evaluator, heard, on(slot, job))
                wanted = [(prompt.id, n) for prompt, n, _ in job.protocol.images()]
                assert sorted(images) == sorted(wanted)
                assert evaluator.alive
        finally:
            evaluator.kill()

    def test_what_is_done_is_not_done_again(self, executor: Executor, job: Evaluate) -> None:
        """An evaluation that was interrupted goes on with what it lacks."""
        heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        slot = self.slots(executor)[0]
        first, *rest = [(prompt.id, n) for prompt, n, _ in job.protocol.images()]
        assert rest
        evaluator = executor.start(slot, heard.put)
        try:
            left = msgspec.structs.replace(on(slot, job), done=(first,))
            assert sorted(told(evaluator, heard, left)) == sorted(rest)
        finally:
            evaluator.kill()

    def test_a_slot_in_use_is_still_told(self, executor: Executor, job: Evaluate) -> None:
        """It is ours while an evaluator of ours runs in it."""
        heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        slot = self.slots(executor)[0]
        evaluator = executor.start(slot, heard.put)
        try:
            told(evaluator, heard, on(slot, job))
            assert slot.name in {it.name for it in self.slots(executor)}
        finally:
            evaluator.kill()

    def test_what_was_killed_says_nothing_more(self, executor: Executor, job: Evaluate) -> None:
        """It is not alive, its slot can be used again, and no reply comes any more."""
        heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        slot = self.slots(executor)[0]
        evaluator = executor.start(slot, heard.put)
        evaluator.evaluate(on(slot, job))
        evaluator.kill()
        assert not evaluator.alive
        while not heard.empty():
            heard.get()
        after: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        another = executor.start(slot, after.put)
        try:
            told(another, after, on(slot, job))
        finally:
            another.kill()
        assert heard.empty()


def on(slot: Slot, request: Evaluate) -> Evaluate:
    """Return the request for a slot."""
    return msgspec.structs.replace(request, device=slot.device, gpu=slot.gpu)


def told(
    evaluator: EvaluatorHandle, heard: queue.SimpleQueue[Reply], request: Evaluate
) -> list[tuple[str, int]]:
    """Let a request be done, and return the images that were told, as (prompt id, index)."""
    evaluator.evaluate(request)
    images: list[tuple[str, int]] = []
    loaded = False
    while True:
        reply = heard.get(timeout=PATIENCE)
        assert not isinstance(reply, Failed), reply
        if isinstance(reply, Loaded):
            loaded = True
        elif isinstance(reply, Scored):
            assert loaded
            images += [(image.prompt_id, image.index) for image in reply.images]
            evaluator.kept()
        elif isinstance(reply, Finished):
            return images
        else:
            assert isinstance(reply, Working)
