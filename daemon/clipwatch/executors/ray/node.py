"""What runs on a node of a Ray cluster: an actor that holds the evaluator's process, no torch.

All that comes and goes are plain values; requests and replies are JSON.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from platformdirs import user_cache_path

from clipwatch import __version__
from clipwatch.domain.events import WeightFile
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.messages import Evaluate, Failed, Reply, Scored
from clipwatch.executors.ray.parcels import as_here, digest_of, lies_here, unpack
from clipwatch.kit.filesystems import make_private

_ABOVE: Final = "its last words are above"
_IN_LOGS: Final = "its last words are in Ray's logs of that node"

BEAT_SECONDS: Final = 2.0
"""How long `heard` waits at most for what it can tell."""

Heard = tuple[list[tuple[bytes, dict[str, bytes]]], float]
"""Replies, each with the images that it names; and how long the evaluator has been silent."""


def version() -> str:
    """Return which clipwatch a node has."""
    return __version__


def free_resources() -> dict[str, dict[str, float]]:
    """Return node → resource → what is free of it, as the cluster's head knows."""
    from ray._private.state import available_resources_per_node  # there is no public one

    return dict(available_resources_per_node())


class Host:
    """Holds an evaluator on its node, and the files that travel; used by one link.

    Args:
        module: The evaluator's program.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._folder, self._lock = _own_folder()
        self._place = ""  # where the checkpoint is read
        self._asked = ""  # where it lies for the daemon
        self._evaluator: EvaluatorProcess | None = None
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()

    async def ready(self) -> None:
        """Be there."""

    async def finds(self, path: str, files: bytes) -> bool:
        """Whether the checkpoint's files lie here as they do for the daemon; else make room."""
        known = msgspec.json.decode(files, type=tuple[WeightFile, ...])
        if lies_here(Path(path), known):
            self._place = path
            return True
        shutil.rmtree(self._travelled, ignore_errors=True)
        self._travelled.mkdir(mode=0o700)
        self._place = str(self._travelled)
        return False

    async def write(self, name: str, piece: bytes) -> None:
        """Write a piece of a file that travels, behind those before."""
        unpack(self._travelled, name, piece)

    async def digests(self, names: list[str]) -> list[str]:
        """Read back what was written, and return the SHA-256 of each file."""
        for name in names:
            unpack(self._travelled, name, b"")  # an empty file has no piece
        return [await asyncio.to_thread(digest_of, self._travelled / name) for name in names]

    async def evaluate(self, request: bytes) -> None:
        """Hand a request to the evaluator, a new one if the last one has ended.

        Raises:
            OSError: None can be started, or the checkpoint is gone.
        """
        asked = msgspec.json.decode(request, type=Evaluate)
        self._asked = asked.path
        cache = user_cache_path("clipwatch") / "embeddings"
        here = msgspec.structs.replace(
            asked,
            path=self._place,
            files=as_here(Path(self._place), asked.files),
            images_dir=asked.images_dir and str(self._images),
            cache_dir=asked.cache_dir and str(cache),
        )
        if self._evaluator is None or not self._evaluator.alive:
            loop, self._replies = asyncio.get_running_loop(), asyncio.Queue()
            put = self._replies.put_nowait

            def hear(reply: Reply) -> None:
                loop.call_soon_threadsafe(put, reply)

            self._evaluator = EvaluatorProcess(hear, self._module)
        self._evaluator.evaluate(here)

    async def kept(self, enough: bool) -> None:
        """Let the evaluator go on."""
        if self._evaluator is not None:
            self._evaluator.kept(enough=enough)

    async def heard(self) -> Heard:
        """Return what the evaluator said, as soon as it says something."""
        replies: list[Reply] = []
        with suppress(TimeoutError):
            replies.append(await asyncio.wait_for(self._replies.get(), BEAT_SECONDS))
        while not self._replies.empty():
            replies.append(self._replies.get_nowait())
        silent = self._evaluator.silent_seconds if self._evaluator is not None else 0.0
        return [(msgspec.json.encode(self._told(it)), self._drawn(it)) for it in replies], silent

    async def end(self) -> None:
        """End the evaluator, and leave no file behind."""
        if self._evaluator is not None:
            await asyncio.to_thread(self._evaluator.kill)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _travelled(self) -> Path:
        return self._folder / "checkpoint"

    @property
    def _images(self) -> Path:
        return self._folder / "images"

    def _told(self, reply: Reply) -> Reply:
        """Say it as the daemon's user knows the checkpoint, and finds the rest."""
        if not isinstance(reply, Failed):
            return reply
        reason = reply.reason.replace(self._place, self._asked) if self._place else reply.reason
        return Failed(reply.kind, reason.replace(_ABOVE, _IN_LOGS))

    def _drawn(self, reply: Reply) -> dict[str, bytes]:
        """Return the images of a reply, which are not kept here."""
        found: dict[str, bytes] = {}
        for image in reply.images if isinstance(reply, Scored) else ():
            if image.image is not None:
                found[image.image] = (self._images / image.image).read_bytes()
                (self._images / image.image).unlink()
        return found


def _own_folder() -> tuple[Path, int]:
    """Make a folder that is this process's while it lives, and delete those of processes that died.

    Raises:
        OSError: It cannot be made, or somebody else's folder is in its place.
    """
    base = Path(tempfile.gettempdir(), f"clipwatch-ray-{os.geteuid()}")
    make_private(base)
    if base.stat().st_uid != os.geteuid():
        raise PermissionError(f"{base} is another user's")
    whole = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(whole, fcntl.LOCK_EX)
        for left in base.iterdir():
            if (lock := _lock(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        folder = Path(tempfile.mkdtemp(dir=base))
        lock = _lock(folder)
    finally:
        os.close(whole)
    if lock is None:
        raise BlockingIOError(f"{folder} is in use")
    return folder, lock


def _lock(folder: Path) -> int | None:
    """Lock a folder as long as we live; None where somebody has it."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number
