"""The executor and its evaluators, as the loop sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from clipwatch.executors.base import Refusal, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Reply, Scored, Working
from clipwatch.executors.ray.link import Link, link_to
from clipwatch.executors.ray.messages import Ask, End, Go, Lives, Over, Said, Start
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings

IDLE_SECONDS: Final = 120.0
"""How long an evaluator stays without a request: others may want its GPU, and its models are
loaded in less than it takes most trainings to save again."""

_ENDED: Final = Failed("killed", "the evaluator on the Ray cluster has ended")


class RayExecutor:
    """Evaluates on the nodes of a cluster, on each as `local` does on this machine.

    Args:
        settings: Of the run: its device, and the cluster's address.
        module: The evaluator's program on the nodes.

    Raises:
        SettingsError: The device is one of this machine.
    """

    needs: Final = "ray"

    def __init__(self, settings: Settings, module: str = "clipwatch.evaluator.worker") -> None:
        compute = settings.compute
        if compute.device not in ("cpu", "cuda"):
            raise SettingsError(
                f"{compute.device} names a device of this machine, and Ray chooses on its nodes",
                fix="set cuda or cpu",
                key="device",
            )
        found = settings.source("device").endswith("(auto)")
        self._device = "auto" if found else compute.device
        self._address = compute.ray_address
        self._module = module

    def slots(self) -> tuple[Slot, ...] | Refusal:
        """Return a slot for each GPU, or each CPU, that the cluster has free or that we have."""
        return link_to(self._address).slots(self._device)

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> RayEvaluator:
        """Start an evaluator; it waits where its GPU is not free yet.

        Raises:
            OSError: The system starts no process now.
        """
        return RayEvaluator(link_to(self._address), slot, self._module, receive)

    def reads(self, path: Path) -> bool:  # noqa: ARG002 - the interface
        """What a node does not find under the same path travels there."""
        return True


class RayEvaluator:
    """An evaluator on a node.

    Args:
        link: To its cluster.
        slot: Where it runs.
        module: Its program.
        receive: Called with each reply, from the link's thread.
    """

    def __init__(
        self, link: Link, slot: Slot, module: str, receive: Callable[[Reply], None]
    ) -> None:
        self._link = link
        self._receive = receive
        self._lock = threading.Lock()
        self._busy = False
        self._waits = False  # for `kept`
        self._over = False
        self._heard = 0.0  # when we had a sign of life, by the clock that nobody sets
        self._number = link.add(self._report)
        link.send(Start(self._number, slot, module, IDLE_SECONDS))

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return not self._over and self._link.alive

    @property
    def silent_seconds(self) -> float:
        """How long it has shown no sign of life on its node, or its node none to us."""
        with self._lock:
            return 0.0 if self._waits or not self._busy else time.monotonic() - self._heard

    def evaluate(self, request: Evaluate) -> None:
        """Send a request; only one may be under way. It returns at once."""
        with self._lock:
            self._busy, self._waits = True, False
            self._heard = time.monotonic()
        if self.alive:
            self._link.send(Ask(self._number, request))
        else:
            self._hear(_ENDED)

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on: the images that it reported last are written down; `enough` for no more."""
        with self._lock:
            self._waits = False
            self._heard = time.monotonic()
        self._link.send(Go(self._number, enough))

    def kill(self) -> None:
        """End it on its node, with all that it started."""
        with self._lock:
            self._busy = False
            self._over = True
        self._link.send(End(self._number))

    def _report(self, report: Said | Lives | Over | str) -> None:
        """Take what the link says; a text says why there is no link any more."""
        match report:
            case Said(_, reply):
                self._hear(reply)
            case Lives(_, silent):
                with self._lock:
                    self._heard = time.monotonic() - silent
            case Over(_, failed):
                self._over = True
                self._hear(failed or _ENDED)
            case problem:
                self._over = True
                self._hear(Failed("killed", problem))

    def _hear(self, reply: Reply) -> None:
        with self._lock:  # `kill` returns when this is done, or before
            if not self._busy:
                return
            self._heard = time.monotonic()
            if not isinstance(reply, Working):
                self._busy = not isinstance(reply, Finished | Failed)
                self._waits = isinstance(reply, Scored)
            self._receive(reply)
