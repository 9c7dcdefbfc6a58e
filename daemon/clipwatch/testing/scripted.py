"""An evaluator without models, which answers as a script says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from clipwatch.domain.events import ImageScore
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored


class ScriptedEvaluator:
    """Answers requests at once, from a thread as the real one does.

    `script` may answer a request itself: it gets the request and returns replies, or None for the
    usual ones (a score for each image that is not done). One that is not answered at all counts as
    silent.
    """

    def __init__(
        self,
        receive: Callable[[Reply], None],
        script: Callable[[Evaluate], list[Reply] | None] = lambda _: None,
    ) -> None:
        self._receive = receive
        self._script = script
        self._requests: queue.SimpleQueue[Evaluate | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.alive = True
        self.silent_seconds = 0.0
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Queue the request."""
        self._requests.put(request)

    def kept(self, *, enough: bool = False) -> None:
        """Go on, as it does anyway."""

    def kill(self) -> None:
        """End the thread."""
        with self._lock:
            self.alive = False
        self._requests.put(None)

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            replies = self._script(request)
            if replies == []:
                self.silent_seconds = 10**6
            for reply in usual(request) if replies is None else replies:
                with self._lock:
                    if not self.alive:
                        return
                    self._receive(reply)
                    if isinstance(reply, Failed) and reply.kind == "killed":
                        self.alive = False
                        return


def usual(request: Evaluate, *, images: int | None = None) -> list[Reply]:
    """Return the replies of an evaluation that goes well, cut after `images` images."""
    todo = [
        (prompt.id, index, seed)
        for prompt, index, seed in request.protocol.images()
        if (prompt.id, index) not in set(request.done)
    ]
    scored = [
        Scored((ImageScore(id_, index, seed, seed % 1000 / 1000, f"{id_}-{index}.png"),))
        for id_, index, seed in todo[:images]
    ]
    end: list[Reply] = [Finished(0, 0.0)] if images is None else []
    return [Loaded({"device": "script"}), *scored, *end]
