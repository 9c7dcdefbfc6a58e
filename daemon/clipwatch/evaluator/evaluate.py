"""Checkpoint after checkpoint in, replies out: models stay loaded from one to the next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from clipwatch.evaluator.evaluation import Evaluation, at_any_strength
from clipwatch.evaluator.failures import failure_of
from clipwatch.evaluator.generation.pipeline import free_memory
from clipwatch.evaluator.quiet import quiet
from clipwatch.evaluator.resident import Resident
from clipwatch.executors.messages import Evaluate, Failed, Kept, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipwatch.evaluator.batching import Search

_log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates checkpoints one after the other: generates them in the calling thread.

    What is generated is scored and saved in a second thread, which lives as long as an evaluation.

    Attributes:
        models: What is in memory.
        searches: How far the search for the best batch size is, by device and protocol.
    """

    def __init__(self) -> None:
        quiet()
        self.models = Resident()
        self.searches: dict[tuple[str, str], Search] = {}

    def evaluate(self, request: Evaluate, send: Callable[[Reply], Kept | None]) -> None:
        """Evaluate one checkpoint: `send` gets Loaded, Scored..., and Finished or Failed.

        In between it gets Working, as things begin and while the models compute. Nothing is raised
        but what `send` raises. `send` is called with Scored from another thread; it returns once
        that is kept.
        """
        try:
            finished = Evaluation(request, send, self.models, self.searches).run()
        except BrokenPipeError:  # nobody listens
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon has to hear of it
            failed = self._with_bound(failure_of(error))
            if failed.kind == "internal":
                _log.exception("evaluation of %s failed", request.path)
            key = self.models.device, at_any_strength(request.protocol)
            if failed.kind == "memory":
                self.models.let_go()  # the next attempt has all that there is
                if known := self.searches.get(key):
                    # a size that was generated but could not be scored is no good
                    self.searches[key] = known.halved(known.best or known.size)
        else:
            send(finished)
            return
        free_memory()  # only here, where the error and what its frames hold is let go
        send(failed)

    def _with_bound(self, failed: Failed) -> Failed:
        """Say in a failure for lack of a GPU's memory that it is our own bound that was met."""
        gib = self.models.bound_gib
        if gib is None or "out of memory" not in failed.reason.lower():
            return failed
        bound = f"clipwatch may take {gib:.1f} GiB of this GPU (gpu_memory_gib)"
        return Failed(failed.kind, f"{failed.reason}; {bound}")
