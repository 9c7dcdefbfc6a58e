"""The evaluator's process: requests from stdin, replies to stdout, one JSON object a line."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from clipwatch.evaluator.quiet import quiet
from clipwatch.executors.messages import (
    Failed,
    Kept,
    Reply,
    Request,
    Rescore,
    Scored,
    Working,
)
from clipwatch.kit.processes import end_with_parent, importing, take_pipes

if TYPE_CHECKING:
    from clipwatch.evaluator.evaluate import Evaluator
    from clipwatch.evaluator.rescoring import Rescorer

_OOM_SCORE: Final = 700


def main() -> int:
    """Serve until stdin ends.

    Returns:
        0 at the end of stdin or when nobody reads any more; 1 after an internal failure: what state
        the process is in is then unknown, and a new one is cheap.
    """
    requests, replies = take_pipes()
    end_with_parent()
    _offer_to_oom_killer()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon to act on
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)
    poisoned = False

    def send(reply: Reply) -> Kept | None:
        nonlocal poisoned
        poisoned = isinstance(reply, Failed) and reply.kind == "internal"
        # signs of life come from another thread than scores: one write, as it locks the pipe
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()
        if not isinstance(reply, Scored):
            return None
        if not (line := requests.readline()):
            raise BrokenPipeError
        return msgspec.json.decode(line, type=Kept)

    evaluator: Evaluator | None = None
    rescorer: Rescorer | None = None
    try:
        for line in requests:
            try:
                request: Request = msgspec.json.decode(line, type=Request)
                _show_only(request.gpu)
                if isinstance(request, Rescore):
                    if rescorer is None:
                        send(Working("importing torch"))
                        rescorer = _rescorer()
                    serve = partial(rescorer.rescore, request, send)
                else:
                    if evaluator is None:
                        send(Working("importing torch and diffusers"))
                        evaluator = _evaluator()
                    serve = partial(evaluator.evaluate, request, send)
            except (msgspec.MsgspecError, ImportError) as error:
                send(Failed("internal", f"{type(error).__name__}: {error}"))
            else:
                serve()
            if poisoned:
                return 1
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, replies.fileno())  # closing it must not fail once more
    return 0


def _show_only(gpu: str) -> None:
    """Hide all other GPUs from torch, which is imported after the first request; "" hides none."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _evaluator() -> Evaluator:
    with importing():
        quiet()
        from clipwatch.evaluator.evaluate import Evaluator

    return Evaluator()


def _rescorer() -> Rescorer:
    with importing():
        from clipwatch.evaluator.rescoring import Rescorer

    return Rescorer()


def _offer_to_oom_killer() -> None:
    """Be ended before the training is when the system runs out of memory (Linux)."""
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError):  # raising one's own score is always allowed
        score.write_text(str(max(_OOM_SCORE, int(score.read_text(encoding="ascii")))), "ascii")


if __name__ == "__main__":
    sys.exit(main())
