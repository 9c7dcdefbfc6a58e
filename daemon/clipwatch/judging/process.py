"""The process that judges as the daemon sees it; imports neither numpy nor scipy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final, cast

import msgspec

from clipwatch.judging.base import Judgement, Question
from clipwatch.kit.decoding import decoder
from clipwatch.kit.environment import environment
from clipwatch.kit.errors import ClipwatchError

PATIENCE_SECONDS: Final = 600.0
"""How long an answer may take; the largest logs take a few seconds."""

_ATTEMPTS: Final = 2
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_TOLD = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """What the process says to a question: a judgement, or in a line why there is none."""

    judgement: Judgement | None
    problem: str = ""


class JudgeProcess:
    """A process of its own that judges: numpy and scipy would double the daemon's memory.

    It is started when it is first asked, lives on to know what it has read, and is started again
    when it has died. It ends with the thread that asked first: let that be one that lives as long.

    Args:
        module: The program that is run.
        patience: Seconds that an answer may take.
    """

    def __init__(
        self, module: str = "clipwatch.judging.worker", patience: float = PATIENCE_SECONDS
    ) -> None:
        self._module = module
        self._patience = patience
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # `_child` is changed only under it

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def judge(self, question: Question) -> Judgement:
        """Say what the scores of an evaluation mean; a process that dies over it is tried twice.

        Raises:
            ClipwatchError: There is no judgement; the text says why.
        """
        begun, line = time.monotonic(), msgspec.json.encode(question) + b"\n"
        for _ in range(_ATTEMPTS):
            child = self._running()
            answer = self._answer(child, line)
            if answer.judgement is not None:
                return answer.judgement
            lives, late = child.poll() is None, time.monotonic() - begun >= self._patience
            if lives or not self._drop(child) or late:
                break
        raise ClipwatchError(f"it could not be judged: {answer.problem}")

    def close(self) -> None:
        """End the process, if there is one; a question under way fails."""
        child = self._child
        if child is not None:
            self._drop(child)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._child is None:
                try:
                    self._child = _start(self._module)
                except OSError as error:
                    raise ClipwatchError(f"it could not be judged: {error}") from error
            return self._child

    def _answer(self, child: subprocess.Popen[bytes], line: bytes) -> Reply:
        """Return the answer to a question; a problem and a dead process where there is none."""
        begun, said = time.monotonic(), ""
        timer = threading.Timer(self._patience, child.kill)
        timer.daemon = True
        timer.start()
        try:
            with suppress(OSError):  # it has ended: what it said of that is read
                _pipe(child.stdin).write(line)
                _pipe(child.stdin).flush()
            for heard in _pipe(child.stdout):
                try:
                    reply: Reply = decoder(Reply).decode(heard)
                except msgspec.MsgspecError:  # a warning of some library, or of a traceback
                    said = heard.decode(errors="replace").strip()[:_TOLD] or said
                else:
                    return reply
        except ValueError:  # `close` was faster
            pass
        finally:
            timer.cancel()
        code = child.wait()
        if time.monotonic() - begun >= self._patience:
            said = f"no answer within {self._patience:g} s"
        return Reply(None, said or f"exit code {code}")

    def _drop(self, child: subprocess.Popen[bytes]) -> bool:
        """End a process and what leads to it; say whether it was ours until now."""
        with self._lock:
            ours = self._child is child
            if ours:
                self._child = None
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):  # of a question that it did not read any more
                _pipe(pipe).close()
        return ours


def _start(module: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: nobody's folder, such as a training's with its own modules, is searched for ours
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # so that neither pipe is ever full unread
        env=environment(os.environ, 2) | _ONE_THREAD,
        start_new_session=True,  # a terminal's Ctrl-C is the daemon's to handle
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    return cast("IO[bytes]", pipe)
