"""Runs checks side by side, none of them for longer than it may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from clipwatch.doctor.findings import Finding, fail, warn

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 10.0
"""How long a file system or a server may take to answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Attributes:
        name: As its findings are called.
        look: Returns what is found; changes nothing.
        seconds: How long it may take.
    """

    name: str
    look: Callable[[], Sequence[Finding]]
    seconds: float = PATIENCE_SECONDS


class Late(Exception):  # noqa: N818 - says what happened
    """There was no answer in time."""


def asked(look: Callable[[], Answer], seconds: float) -> Callable[[], Answer]:
    """Begin to look, in a thread that may hang for ever; return what waits for the answer.

    That raises what `look` raises, or Late after `seconds` from now.
    """
    answer: SimpleQueue[tuple[Answer | None, Exception | None]] = SimpleQueue()
    end = time.monotonic() + seconds

    def work() -> None:
        try:
            answer.put((look(), None))
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            answer.put((None, error))

    def wait() -> Answer:
        try:
            found, error = answer.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            raise Late(f"did not answer within {seconds:g} s") from None
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # without an error it is what `look` returned

    threading.Thread(target=work, daemon=True).start()
    return wait


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Yield what all the checks find, in their order; the whole takes as long as the longest."""
    waits = [(check, asked(check.look, check.seconds)) for check in checks]
    for check, wait in waits:
        try:
            yield from wait()
        except Late as late:
            yield fail(check.name, str(late), "see whether its file system or server hangs")
        except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
            what = " ".join(str(error).split())
            found = f"could not be looked at: {type(error).__name__}: {what}"
            yield warn(check.name, found, "look at it yourself")
