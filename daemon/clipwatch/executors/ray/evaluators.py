"""The evaluators on a cluster: an actor each; in the process that is connected to it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import ray

from clipwatch.domain.kinds import FailureKind
from clipwatch.executors.base import Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Reply, Scored, Working
from clipwatch.executors.ray import node
from clipwatch.executors.ray.messages import Lives, Over, Report, Said, Start
from clipwatch.executors.ray.nodes import node_of, placed
from clipwatch.executors.ray.parcels import NotSent, Packed, pack

PLACE_SECONDS: Final = 60.0
"""How long an actor may wait for its slot: one that ends gives it back, others may have it."""

_VIEW_SECONDS: Final = 2.0
"""How old the head's view of what is free may be: so long a slot that we left is still ours."""

_END_SECONDS: Final = 8.0
"""How long an actor may take to end in order; then Ray ends it."""


@dataclass(eq=False)
class _Evaluator:
    order: Start
    actor: Any
    requests: asyncio.Queue[Evaluate] = field(default_factory=asyncio.Queue)
    parcel: tuple[object, ...] = ()  # the checkpoint that travelled to it
    placed: bool = False


class Evaluators:
    """Starts them, brings them what they need, and tells what they say.

    Args:
        say: Takes what is reported.
    """

    def __init__(self, say: Callable[[Report], None]) -> None:
        self._say = say
        self._host = ray.remote(node.Host)
        self._there: dict[int, _Evaluator] = {}
        self._left: list[Slot] = []
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._parcels: dict[tuple[object, ...], asyncio.Task[tuple[Packed, ...]]] = {}

    @property
    def places(self) -> tuple[Slot, ...]:
        """The slots that they have, or had a moment ago."""
        slots = (*(it.order.slot for it in self._there.values()), *self._left)
        return tuple({it.name: it for it in slots}.values())

    def start(self, order: Start) -> None:
        """Have an actor in a slot."""
        gpu = order.slot.device == "cuda"
        needs = {"num_gpus": 1, "num_cpus": 0} if gpu else {"num_cpus": 1}
        options = placed({**needs, "max_restarts": 0, "max_task_retries": 0}, node_of(order.slot))
        actor = self._host.options(**options).remote(order.module)
        new = self._there[order.evaluator] = _Evaluator(order, actor)
        life = asyncio.create_task(self._live(order.evaluator, new))
        self._lives[order.evaluator] = life
        life.add_done_callback(lambda _: self._lives.pop(order.evaluator))

    def ask(self, number: int, request: Evaluate) -> None:
        """Hand over a request; to one that has just ended none, as Over is on its way."""
        if known := self._there.get(number):
            known.requests.put_nowait(request)

    def kept(self, number: int, enough: bool) -> None:
        """Let one go on."""
        if known := self._there.get(number):
            known.actor.kept.remote(enough)

    def end(self, number: int) -> None:
        """End one."""
        if number in self._there:
            # not at once: one that has not begun would never come to its end
            asyncio.get_running_loop().call_soon(self._lives[number].cancel)

    async def close(self) -> None:
        """End all."""
        for number in self._there:
            self.end(number)
        await asyncio.gather(*self._lives.values(), return_exceptions=True)

    async def _live(self, number: int, it: _Evaluator) -> None:
        """Have one evaluate what comes, until it is ended, lost or not needed any more."""
        failed: Failed | None = None
        try:
            while failed is None:
                request = await asyncio.wait_for(it.requests.get(), it.order.idle_seconds)
                failed = await self._evaluated(number, it, request)
        except TimeoutError:
            pass
        finally:
            del self._there[number]
            self._left.append(it.order.slot)
            self._forget(it)
            self._say(Over(number, failed))
            try:
                with suppress(Exception):
                    await asyncio.wait_for(it.actor.end.remote(), _END_SECONDS)
            finally:
                with suppress(Exception):
                    ray.kill(it.actor)
                leave = partial(self._left.remove, it.order.slot)
                asyncio.get_running_loop().call_later(_VIEW_SECONDS, leave)

    async def _evaluated(self, number: int, it: _Evaluator, request: Evaluate) -> Failed | None:
        """Have a request answered; return the last answer where the actor is of no more use."""
        title = it.order.slot.title
        try:
            if not it.placed:
                self._say(Said(number, Working(f"waiting for {title}")))
                ready = self._alive(number, it.actor.ready.remote())
                await asyncio.wait_for(ready, PLACE_SECONDS)
                it.placed = True
            await self._bring(number, it, request)
            await it.actor.evaluate.remote(msgspec.json.encode(request))
            await self._follow(number, it, request)
        except NotSent as error:
            self._forget(it)
            self._say(Said(number, Failed(error.kind, str(error))))
        except Exception as error:  # noqa: BLE001 - of a node's disk, of Ray, of ours: no result
            return _failure(error, title, request.path, placed=it.placed)
        return None

    async def _follow(self, number: int, it: _Evaluator, request: Evaluate) -> None:
        while True:
            replies, silent = await it.actor.heard.remote()
            self._say(Lives(number, silent))
            for line, images in replies:
                reply: Reply = msgspec.json.decode(line, type=Reply)
                if isinstance(reply, Scored) and request.images_dir:
                    await asyncio.to_thread(_write, Path(request.images_dir), images)
                self._say(Said(number, reply))
                if isinstance(reply, Finished | Failed):
                    return

    async def _bring(self, number: int, it: _Evaluator, request: Evaluate) -> None:
        """Have the checkpoint on the node: as it lies there, or by Ray's object store.

        Raises:
            NotSent: It cannot be read, or is another one there.
        """
        key = (request.path, request.files)
        if it.parcel == key:
            return
        self._forget(it)
        files = msgspec.json.encode(request.files)
        if await it.actor.finds.remote(request.path, files):
            return
        self._say(Said(number, Working(f"sending the checkpoint to {it.order.slot.title}")))
        it.parcel = key  # as long as it has it, others get it from the object store as well
        if key not in self._parcels:
            self._parcels[key] = asyncio.create_task(asyncio.to_thread(pack, request, ray.put))
        packed = await self._alive(number, asyncio.shield(self._parcels[key]))
        for file in packed:
            for piece in file.pieces:
                await it.actor.write.remote(file.path, piece)
                self._say(Lives(number, 0.0))
        names, known = [file.path for file in packed], [file.digest for file in packed]
        if await self._alive(number, it.actor.digests.remote(names)) != known:
            raise NotSent("changed", f"{request.path} is another one on {it.order.slot.title}")

    async def _alive(self, number: int, work: Awaitable[Any]) -> Any:
        """Wait for what shows no sign of life of its own, but ends or fails by itself."""
        waiting = asyncio.ensure_future(work)
        while not (await asyncio.wait((waiting,), timeout=node.BEAT_SECONDS))[0]:
            self._say(Lives(number, 0.0))
        return await waiting

    def _forget(self, it: _Evaluator) -> None:
        """Let go of what travelled to one, if no other has it; so the object store is free."""
        key, it.parcel = it.parcel, ()
        if key and all(other.parcel != key for other in self._there.values()):
            self._parcels.pop(key, None)


def _write(folder: Path, images: dict[str, bytes]) -> None:
    """Write images that came from a node, each whole or not there.

    Raises:
        OSError: The disk is full, or the folder is not ours to write to.
        ValueError: A name leads elsewhere.
    """
    _make(folder)
    access = 0o666 & folder.stat().st_mode
    for name, image in images.items():
        if name != Path(name).name or name.startswith("."):
            raise ValueError(f"{name!r} is no image's name")
        unfinished = folder / f".{name}.tmp"
        unfinished.unlink(missing_ok=True)
        number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, access)
        with os.fdopen(number, "wb") as file:
            file.write(image)
            file.flush()
            os.fsync(number)
        unfinished.replace(folder / name)


def _make(folder: Path) -> None:
    """Make a folder, as accessible as the one it lies in, if it is not there."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode=folder.parent.stat().st_mode & 0o777, exist_ok=True)


def _failure(error: Exception, title: str, path: str, *, placed: bool) -> Failed:
    """Return what a fault means for an evaluation in a slot; a node's is told in the last line."""
    match error:
        case TimeoutError():
            return Failed("device", f"{title} was taken by others meanwhile")
        case ray.exceptions.RayActorError() if placed:
            return Failed("killed", f"{title} was lost: its node, or Ray's worker there, has ended")
        case ray.exceptions.RayActorError() | ray.exceptions.ActorUnschedulableError():
            return Failed("device", f"{title} has left the cluster")
        case FileNotFoundError():
            return Failed("vanished", f"{path} is gone on {title}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    number = getattr(getattr(error, "cause", error), "errno", None)  # Ray wraps what a node raised
    kind: FailureKind = "disk" if number in (errno.ENOSPC, errno.EDQUOT) else "internal"
    return Failed(kind, f"{title}: {(lines or [type(error).__name__])[-1]:.300}")
