"""Decoders of msgspec for a process with threads."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final

import msgspec

_LOCK: Final = threading.Lock()


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type of ours, of a union of some, or of a container of them.

    Any thread may use it. msgspec works out what a type holds when it is first decoded, and ends
    the process where two threads do that at once (seen with 0.22.0: a segmentation fault).
    """
    with _LOCK:
        return _made(kind)


@cache
def _made(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
