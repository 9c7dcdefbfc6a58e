"""Which slots a Ray cluster has for which run, as its nodes and their free resources tell."""

from __future__ import annotations

import asyncio

import pytest

from clipwatch.executors.base import Slot
from clipwatch.executors.ray import nodes
from clipwatch.executors.ray.messages import Look


def test_a_gpu_and_a_processor_of_a_node_are_never_the_same_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs on either lend them by their names, and what one has is nothing for the other."""
    node = {"NodeID": "n", "NodeName": "box", "Alive": True, "Resources": {"GPU": 1.0, "CPU": 2.0}}
    free = {"n": {"GPU": 1.0, "CPU": 2.0}}

    async def told(_: str) -> str:
        return ""

    async def left() -> dict[str, dict[str, float]]:
        return free

    monkeypatch.setattr("ray.nodes", lambda: [node])
    monkeypatch.setattr(nodes, "_told", told)
    monkeypatch.setattr(nodes, "_free", left)
    known = nodes.Nodes()

    def slots(device: str, *ours: Slot) -> tuple[Slot, ...]:
        return asyncio.run(known.seen(Look(1, device), ours)).slots

    gpus, processors = slots("cuda"), slots("cpu")
    assert [it.title for it in gpus] == ["GPU 0 of node box"]
    assert [it.title for it in processors] == ["CPU 0 of node box", "CPU 1 of node box"]
    assert len({it.name for it in (*gpus, *processors)}) == 3
    assert {nodes.node_of(it) for it in (*gpus, *processors)} == {"n"}
    free["n"]["CPU"] = 0.0
    assert slots("cuda", *processors) == gpus
    assert slots("cpu", *gpus, *processors) == processors
