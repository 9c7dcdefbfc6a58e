"""Every call to the operating system on the output directory may fail: a state, never an end.

The errors are injected into Python's own functions; dead mounts themselves are in
test_dead_mounts.py.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clipwatch.domain.events import OutputDirChecked
from loop_kit import states, until
from world import World, checkpoint

CALLS = ("open", "stat", "lstat", "listdir", "scandir", "readlink")
# what open(2), stat(2), read(2), getdents(2), readlink(2) and mounts over a network may say
CODES = (
    *(errno.EACCES, errno.EBADF, errno.EHOSTDOWN, errno.EINVAL, errno.EIO, errno.ELOOP),
    *(errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOENT, errno.ENOMEM),
    *(errno.ENOTCONN, errno.ENOTDIR, errno.ENXIO, errno.EOVERFLOW, errno.EPERM, errno.EREMOTEIO),
    *(errno.ESTALE, errno.ETIMEDOUT),
)

SINGLE = (errno.EIO, errno.ELOOP, errno.EMFILE)


@contextmanager
def failing(below: Path, code: int, fails: Callable[[int], bool]) -> Iterator[list[int]]:
    """Have calls on paths below a folder fail, those whose number `fails` says so; count them.

    All of them from one moment to another: between two of them a living daemon would look.
    """
    calls, on = [0], threading.Event()

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            path = args[0] if args else options.get("path", ".")
            ours = on.is_set() and isinstance(path, str | os.PathLike)
            if ours and below in (Path(path), *Path(path).parents):
                calls[0] += 1
                if fails(calls[0] - 1):
                    raise OSError(code, os.strerror(code), str(path))
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        patch.setattr(io, "open", wrap(io.open))
        patch.setattr(builtins, "open", wrap(builtins.open))
        on.set()
        try:
            yield calls
        finally:
            on.clear()


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[it] for it in CODES])
@pytest.mark.thorough(but=4)
def test_a_directory_that_fails_is_a_state(tmp_path: Path, code: int) -> None:
    """It is told once with its reason; when it is over that is told, and all goes on."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    with world.live():
        until(lambda: states(world) == {1: "published"})
        with failing(world.output, code, lambda _: True):
            until(lambda: world.run.problem != "")
            time.sleep(0.3)
            said = len(world.said)
            time.sleep(0.3)
            assert len(world.said) == said
        until(lambda: world.run.problem == "")
        checkpoint(world.output, 2, 2)
        until(lambda: states(world) == {1: "published", 2: "published"})
    told = [it.event.problem for it in world.logged if isinstance(it.event, OutputDirChecked)]
    (problem,) = filter(None, told)
    ours = ("does not exist", "may not be entered", "is a file")  # clearer words than the system's
    assert any(words in problem for words in (os.strerror(code), *ours))
    assert str(world.output) in problem


@pytest.mark.parametrize("code", SINGLE, ids=[errno.errorcode[it] for it in SINGLE])
@pytest.mark.thorough(but=1)
def test_whichever_call_fails_once_nothing_is_lost(tmp_path: Path, code: int) -> None:
    """One call after the other: the daemon ends in order, and the next has all published."""

    def begun(name: str) -> World:
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        for step in (1, 2):
            checkpoint(world.output, step, step)
        return world

    clean = begun("clean")
    with failing(clean.output, code, lambda _: False) as calls:
        assert clean.once() == 0
    assert calls[0] > 20
    for at in range(calls[0]):
        world = begun(str(at))
        with failing(world.output, code, lambda number, at=at: number == at):  # type: ignore[misc]
            world.once()
        assert world.once() == 0
        assert states(world) == {1: "published", 2: "published"}
