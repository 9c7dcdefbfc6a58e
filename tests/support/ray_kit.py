"""A real Ray cluster on this machine: a head without slots, and nodes that come and go."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from clipwatch.executors.base import Refusal, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Reply, Scored, Working
from clipwatch.executors.ray import RayExecutor, link
from clipwatch.testing.executors import on
from places import python_path

PATIENCE: Final = 150.0
"""Seconds: Ray takes some twenty to call a node dead, and machines may be busy."""

STORE_BYTES: Final = 80 << 20
"""Of each node's object store, in /dev/shm; Ray takes no less."""


_NODE: Final = """
import json, sys, threading
from ray._private.node import Node
from ray._private.parameter import RayParams
node = Node(RayParams(**json.loads(sys.argv[1])), head=False)
threading.Event().wait()
"""
"""What `Cluster.add_node` does, in a process of its own."""


class RayCluster:
    """A cluster whose nodes share this machine and its loopback.

    Attributes:
        address: For `ray_address`.
        generated: Where `fast_worker` notes what it made.
    """

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.generated = folder / "generated"
        self.address = ""
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args=self._common(0) | {"include_dashboard": False},
        )
        self.address = str(self.cluster.address)

    def add(self, cpus: int = 1, **more: Any) -> Any:
        """Have one more node; `more` as Ray's."""
        return self.cluster.add_node(**self._common(cpus) | more)

    def remove(self, name: str) -> None:
        """Kill the node of a slot, with all that runs on it: gone when this returns."""
        node = next(it for it in self.cluster.worker_nodes if it.node_id == name.partition(":")[0])
        raylet = str(node.all_processes["raylet"][0].process.pid)
        self.cluster.remove_node(node, allow_graceful=False)
        until(lambda: not processes(RAY_RAYLET_PID=raylet))  # they look for theirs once a second

    @contextmanager
    def without(self, folder: Path) -> Iterator[None]:
        """Have one more node meanwhile, of one slot, which sees nothing in a folder."""
        hidden = 'mount -t tmpfs none "$1" && shift && exec "$@"'
        options = self._common(1) | {"gcs_address": self.address, "include_log_monitor": False}
        program = [sys.executable, "-c", _NODE, json.dumps(options)]
        with subprocess.Popen(
            ["unshare", "-m", "sh", "-c", hidden, "sh", folder, *program],
            env={**os.environ, "HIDES": str(folder)},
        ):
            try:
                yield
            finally:
                for process in processes(HIDES=str(folder)):
                    process.kill()

    def _common(self, cpus: int) -> dict[str, Any]:
        return {
            "num_cpus": cpus,
            "num_gpus": 0,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": STORE_BYTES,
        }


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """Run a cluster, whose workers find the tests' modules and keep their files below a folder."""
    pytest.importorskip("ray", reason="pip install 'clipwatch[ray]'")
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # a socket's path is short
    environ = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that Ray stays on the loopback
        "PYTHONPATH": python_path(),
        "GENERATED": str(folder / "generated"),
        "DRAWN": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(home),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        made = RayCluster(folder)
        try:
            yield made
        finally:
            for known in link._links.values():
                known.close()
            link._links.clear()
            made.cluster.shutdown()
            shutil.rmtree(home, ignore_errors=True)


def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for what a cluster does some time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def slots(executor: RayExecutor, number: int) -> tuple[Slot, ...]:
    """Return the slots as soon as there are so many."""
    found: list[tuple[Slot, ...]] = []

    def there() -> bool:
        told = executor.slots()
        found[:] = [() if isinstance(told, Refusal) else told]
        return len(found[0]) == number

    until(there)
    return found[0]


class Told:
    """An evaluator that was started in a slot, and what it reported.

    Args:
        executor: That starts it.
        slot: Where.
    """

    def __init__(self, executor: RayExecutor, slot: Slot) -> None:
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.slot = slot
        self.handle = executor.start(slot, self.replies.put)

    def ask(self, request: Evaluate) -> None:
        """Send a request for the slot."""
        self.handle.evaluate(on(self.slot, request))

    def reply(self) -> Reply:
        """Wait for the next reply, but for what is only told to who waits."""
        while isinstance(found := self.replies.get(timeout=PATIENCE), Working):
            pass
        return found

    def until(self, kind: type[Reply]) -> Reply:
        """Let it go on to the next reply of a kind."""
        while not isinstance(found := self.reply(), kind):
            assert not isinstance(found, Failed | Finished), found
            if isinstance(found, Scored):
                self.handle.kept()
        return found


def workers(program: str) -> list[psutil.Process]:
    """Return the processes of this cluster's nodes that run a program: "ray::Host" the actors."""
    return processes(program, TMPDIR=os.environ["TMPDIR"])


def processes(program: str = "", **environ: str) -> list[psutil.Process]:
    """Return those that have a word in their call, and these values in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words, its = process.cmdline(), process.environ()
            if environ.items() <= its.items() and any(program in word for word in words):
                found.append(process)
    return found
