"""The nodes of a cluster, as slots; in the process that is connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from clipwatch import __version__
from clipwatch.executors.base import Slot
from clipwatch.executors.ray import node
from clipwatch.executors.ray.messages import Look, Seen

_GPU, _CPU = "GPU", "CPU"
_KIND: Final = {"cuda": _GPU, "cpu": _CPU}

_ASK_SECONDS: Final = 15.0
"""How long a node may take to tell its version: it starts a worker of Ray."""


class Nodes:
    """Knows which nodes can evaluate: those that have this clipwatch."""

    def __init__(self) -> None:
        self._fit: set[str] = set()

    async def seen(self, look: Look, ours: Collection[Slot]) -> Seen:
        """Return the slots: what is free, and what evaluators of ours have."""
        try:
            return await self._seen(look, ours)
        except Exception as error:  # noqa: BLE001 - the head is away, or whatever else Ray has
            problem = f"the Ray cluster does not tell its nodes ({_first(error)})"
            return Seen(look.number, problem=problem, fix="see `ray status` there")

    async def _seen(self, look: Look, ours: Collection[Slot]) -> Seen:
        alive = {it["NodeID"]: it for it in await asyncio.to_thread(ray.nodes) if it["Alive"]}
        has = {
            kind: {it for it in alive if alive[it]["Resources"].get(kind, 0) >= 1}
            for kind in (_GPU, _CPU)
        }
        kind = _KIND.get(look.device) or (_GPU if has[_GPU] else _CPU)
        if not has[kind]:
            problem = f"no node of the Ray cluster has a {kind}"
            fix = "start nodes with GPUs, or set device to cpu" if kind == _GPU else "start nodes"
            return Seen(look.number, problem=problem, fix=fix)
        unfit = await self._unfit(has[kind])
        fit = has[kind] - unfit.keys()
        if not fit:
            names = ", ".join(f"{alive[it]['NodeName']} {why}" for it, why in unfit.items())
            problem = f"no node of the Ray cluster can evaluate: {names}"
            fix = f"install clipwatch {__version__} on the nodes, for the Python that Ray has there"
            return Seen(look.number, problem=problem, fix=fix)
        free = await _free()
        device = "cuda" if kind == _GPU else "cpu"
        slots: list[tuple[int, Slot]] = []
        for id_ in sorted(fit):
            most = int(alive[id_]["Resources"][kind])
            left = int(free.get(id_, {}).get(kind, 0))
            own = {it.name for it in ours if node_of(it) == id_ and it.device == device}
            others = [name for n in range(most) if (name := f"{id_}:{kind}:{n}") not in own]
            for name in (*own, *others[:left]):
                n = int(name.rpartition(":")[2])
                title = f"{kind} {n} of node {alive[id_]['NodeName']}"
                slots.append((n, Slot(name, device, title=title)))
        if not slots:
            problem = f"all {kind}s of the Ray cluster are in use"
            return Seen(look.number, problem=problem, fix="they are waited for")
        return Seen(look.number, tuple(slot for _, slot in sorted(slots, key=_spread)))

    async def _unfit(self, nodes: Collection[str]) -> dict[str, str]:
        """Return node → why it cannot evaluate; those that can are asked once."""
        new = sorted(set(nodes) - self._fit)
        told = await asyncio.gather(*map(_told, new))
        self._fit |= {it for it, why in zip(new, told, strict=True) if not why}
        return {it: why for it, why in zip(new, told, strict=True) if why}


def placed(options: dict[str, Any], id_: str) -> dict[str, Any]:
    """Return options of Ray, for this node and no other."""
    return options | {"scheduling_strategy": NodeAffinitySchedulingStrategy(id_, soft=False)}


def node_of(slot: Slot) -> str:
    """Return the node that a slot is on."""
    return slot.name.partition(":")[0]


async def _told(id_: str) -> str:
    """Ask a node for its clipwatch; return why it is not fit, or ""."""
    ask = ray.remote(node.version).options(**placed({"num_cpus": 0, "max_retries": 0}, id_))
    try:
        found = await asyncio.wait_for(ask.remote(), _ASK_SECONDS)
    except TimeoutError:
        return "does not answer"
    except ray.exceptions.RayError as error:
        lacks = "No module named" in str(error)
        return "has no clipwatch" if lacks else f"cannot run it ({_first(error)})"
    return "" if found == __version__ else f"has clipwatch {found}"


async def _free() -> dict[str, dict[str, float]]:
    """Ask for what is free; who is a client of a cluster has a worker there do so."""
    if ray.util.client.ray.is_connected():
        return dict(await ray.remote(node.free_resources).options(num_cpus=0).remote())
    return await asyncio.to_thread(node.free_resources)


def _spread(it: tuple[int, Slot]) -> tuple[int, str]:
    return it[0], it[1].name


def _first(error: BaseException) -> str:
    """Return the beginning of what an error says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
