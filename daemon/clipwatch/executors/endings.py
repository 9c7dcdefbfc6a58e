"""What the end of the evaluator's process means, in the kinds and words of `Failed`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

from clipwatch.domain.kinds import FailureKind
from clipwatch.executors.messages import Failed

_MEANINGS: Final[dict[int, str]] = {
    signal.SIGBUS: "a file was cut short while it was read, or its disk failed",
    signal.SIGSEGV: "a crash in native code; see whether the driver suits this PyTorch",
    signal.SIGABRT: "native code gave up; its last words are above",
    signal.SIGILL: "a package was built for another processor",
    signal.SIGKILL: "somebody ended it, or the system was out of memory",
    signal.SIGTERM: "somebody ended it",
}
_OUT_OF_MEMORY: Final = "the system was out of memory, and the kernel chose it; free host memory"


def ending(code: int, *, out_of_memory: bool) -> Failed:
    """Return the failure of a process that ended in the middle of an evaluation.

    Args:
        code: Its return code, as subprocess gives it.
        out_of_memory: Whether the kernel killed a process for lack of memory meanwhile.
    """
    if code >= 0:
        return Failed(
            "killed", f"the evaluator ended with exit code {code}; its last words are above"
        )
    number = -code
    # of the real-time signals only the first and the last have names
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    starved = number == signal.SIGKILL and out_of_memory
    meaning = _OUT_OF_MEMORY if starved else _MEANINGS.get(number, "")
    kind: FailureKind = "changed" if number == signal.SIGBUS else "killed"
    return Failed(kind, f"the evaluator was killed by {name}{': ' * bool(meaning)}{meaning}")


def oom_kills() -> int:
    """Return how many processes the kernel killed for lack of memory so far; 0 if it won't say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else 0
