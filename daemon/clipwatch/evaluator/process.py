"""The evaluator's process as the daemon sees it; imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from clipwatch.evaluator.messages import Evaluate, Failed, Finished, Reply

SECRETS = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""Endings of environment variables that the evaluator has no business with."""

NEEDED = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
"""The one secret that it needs, by its two names: gated models are loaded from the Hub with it."""


def environment(environ: Mapping[str, str], cores: int) -> dict[str, str]:
    """Return the environment of the evaluator: without secrets but the Hub's token.

    It takes half of the cores unless OMP_NUM_THREADS says otherwise; more would only make it and
    the training wait for each other.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in NEEDED or not name.upper().endswith(SECRETS)
    }
    return {"OMP_NUM_THREADS": str(max(1, cores // 2)), **kept}


class EvaluatorHandle(Protocol):
    """An evaluator that can be handed requests, wherever it runs."""

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""

    def evaluate(self, request: Evaluate) -> None:
        """Send a request; only one may be under way."""

    def kill(self) -> None:
        """End it now, if it still runs; what it has not reported is lost and done again."""


class EvaluatorProcess:
    """A running evaluator; replies arrive on a thread of their own.

    Args:
        receive: Called with each reply. A child that ends in the middle of an evaluation is
            reported as Failed of kind "killed".
    """

    def __init__(self, receive: Callable[[Reply], None]) -> None:
        self._receive = receive
        self._busy = False
        self._child = subprocess.Popen(
            [sys.executable, "-m", "clipwatch.evaluator.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(os.environ, os.cpu_count() or 1),
            start_new_session=True,  # a terminal's Ctrl-C is the daemon's to handle
        )
        self._reader = threading.Thread(target=self._read, name="evaluator", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return self._child.poll() is None

    def evaluate(self, request: Evaluate) -> None:
        """Send a request; only one may be under way."""
        self._busy = True
        pipe = self._child.stdin
        if pipe is None:  # pragma: no cover - Popen was asked for a pipe
            raise RuntimeError("the evaluator has no stdin")
        try:
            pipe.write(msgspec.json.encode(request) + b"\n")
            pipe.flush()
        except BrokenPipeError:
            self._reader.join()  # which reports the end, unless it was over before `_busy` was set
            self._report_end()

    def kill(self) -> None:
        """End it now; what it has not reported is lost and done again."""
        self._busy = False
        if self.alive:
            self._child.kill()
        self._child.wait()
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):  # of what it did not read any more
                self._child.stdin.close()

    def _read(self) -> None:
        pipe = self._child.stdout
        if pipe is None:  # pragma: no cover - Popen was asked for a pipe
            raise RuntimeError("the evaluator has no stdout")
        decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
        with pipe:
            for line in pipe:
                try:
                    reply = decoder.decode(line)
                except msgspec.MsgspecError:  # half a line: it was killed while it wrote
                    self._child.kill()
                    break
                if isinstance(reply, Finished | Failed):
                    self._busy = False
                self._receive(reply)
        self._report_end()

    def _report_end(self) -> None:
        code = self._child.wait()
        if self._busy:
            self._busy = False
            self._receive(Failed("killed", ending(code)))


def ending(code: int) -> str:
    """Say in words how a process with this return code ended."""
    if code >= 0:
        return f"the evaluator ended with exit code {code}; its last words are above"
    name = signal.Signals(-code).name
    hint = {
        signal.SIGKILL: " (the system was out of memory?)",
        signal.SIGBUS: " (the checkpoint was cut short while it was read?)",
    }.get(signal.Signals(-code), "")
    return f"the evaluator was killed by {name}{hint}"
