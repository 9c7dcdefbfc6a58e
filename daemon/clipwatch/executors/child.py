"""The evaluator's process as the daemon sees it; imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

from clipwatch.executors.endings import ending, oom_kills
from clipwatch.executors.messages import Failed, Finished, Kept, Reply, Request, Scored, Working
from clipwatch.kit.decoding import decoder
from clipwatch.kit.environment import environment

PATIENCE_SECONDS: Final = 5.0
"""How long a process may take to end, once it is killed or has closed its output."""

_LONGEST_LINE: Final = 16 << 20  # a batch may have thousands of images, an id 200 letters
_MOVED: Final = ("rchar", "wchar", "read_bytes")


class EvaluatorProcess:
    """A running evaluator; replies arrive on a thread of their own.

    Args:
        receive: Called with each reply. A child that ends in the middle of an evaluation is
            reported as Failed of kind "killed", or "changed" when a file was cut short under it.
            Nothing is reported any more once `kill` has returned.
        module: The program that is run.
        beside: So many evaluators share the processor, with this one.

    Raises:
        OSError: The system starts no process now.
    """

    def __init__(
        self,
        receive: Callable[[Reply], None],
        module: str = "clipwatch.evaluator.worker",
        *,
        beside: int = 1,
    ) -> None:
        self._receive = receive
        self._lock = threading.Lock()  # what `evaluate` sets is changed only under it
        self._busy = False
        self._waits = False  # for `kept`
        self._heard = 0.0
        self._moved = 0
        self._oom_kills = 0
        self._given_up = False
        self._child = subprocess.Popen(
            # -P: nobody's folder, such as a training's with its own modules, is searched for ours
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(os.environ, (os.cpu_count() or 1) // beside),
            start_new_session=True,  # a terminal's Ctrl-C is the daemon's to handle
        )
        self._stdin = cast("BinaryIO", self._child.stdin)
        self._stdout = cast("BinaryIO", self._child.stdout)
        self._reader = threading.Thread(target=self._read, name="evaluator", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return not self._given_up and self._child.poll() is None

    @property
    def silent_seconds(self) -> float:
        """How long it has shown no sign of life over the request in hand; 0.0 without one.

        A message is one, and so are bytes that it read or wrote, which the kernel counts (Linux):
        models are imported, fetched and loaded without a word. While it waits for `kept` the
        silence is ours, not its own.
        """
        with self._lock:
            if self._waits or not self._busy:
                return 0.0
            moved = _bytes_moved(self._child.pid)
            if moved != self._moved:
                self._moved, self._heard = moved, time.monotonic()
            return time.monotonic() - self._heard

    def evaluate(self, request: Request) -> None:
        """Send a request; only one may be under way. It returns at once."""
        with self._lock:
            self._busy, self._waits = True, False
            self._heard = time.monotonic()
            self._moved = _bytes_moved(self._child.pid)
            self._oom_kills = oom_kills()
        line = msgspec.json.encode(request) + b"\n"
        # a thread of its own: a pipe holds 64 KiB, and a child that hangs takes no more
        threading.Thread(target=self._write, args=(line,), name="request", daemon=True).start()

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on: the images that it reported last are written down; `enough` for no more."""
        with self._lock:
            self._waits = False
            self._heard = time.monotonic()
        with suppress(BrokenPipeError, ValueError):  # its end is reported by who reads from it
            self._stdin.write(msgspec.json.encode(Kept(enough)) + b"\n")
            self._stdin.flush()

    def kill(self) -> None:
        """End it now with all that it started; a process that even so stays is left behind."""
        with self._lock:
            self._busy = False
        self._given_up = True
        self._end()
        if self._code() is not None:  # else it sleeps in the kernel, on a dead file system perhaps
            with suppress(BrokenPipeError):  # of what it did not read any more
                self._stdin.close()

    def _write(self, line: bytes) -> None:
        try:
            self._stdin.write(line)
            self._stdin.flush()
        except (BrokenPipeError, ValueError):  # it ended, or `kill` closed the pipe
            self._reader.join()  # which reports the end, unless it was over before `_busy` was set
            self._report_end()

    def _read(self) -> None:
        replies: msgspec.json.Decoder[Reply] = decoder(Reply)
        problem = ""
        with self._stdout as pipe:
            while line := pipe.readline(_LONGEST_LINE):
                try:
                    message = replies.decode(line)
                except msgspec.MsgspecError:
                    if line.endswith(b"\n") or len(line) == _LONGEST_LINE:
                        problem = f"wrote what is no reply: {line[:60]!r}"
                        self._end()
                    break  # half a line: it was killed while it wrote
                self._hear(message)
        self._report_end(problem)

    def _hear(self, message: Reply) -> None:
        with self._lock:
            if not self._busy:
                return
            self._heard = time.monotonic()
            if isinstance(message, Working):
                if message.doing:
                    self._receive(message)
                return
            self._busy = not isinstance(message, Finished | Failed)
            self._waits = isinstance(message, Scored)
            self._receive(message)

    def _report_end(self, problem: str = "") -> None:
        """Report a request that is not answered any more."""
        code = self._code()
        if code is None:
            problem = problem or "closed its output and went on"
            self._end()
        if problem or code is None:
            self._hear(Failed("internal", f"the evaluator {problem}; it was ended"))
        else:
            self._hear(ending(code, out_of_memory=oom_kills() > self._oom_kills))

    def _end(self) -> None:
        if self._child.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # it ended just now
                os.killpg(self._child.pid, signal.SIGKILL)

    def _code(self) -> int | None:
        """Wait for the end; return the code, or None if it does not come."""
        try:
            return self._child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def _bytes_moved(pid: int) -> int:
    """Return how much a process has read and written; 0 where the kernel does not say."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in _MOVED)
