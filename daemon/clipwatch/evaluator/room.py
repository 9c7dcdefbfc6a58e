"""What has to leave memory so that there is room for what is asked for now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

Key = TypeVar("Key")


def to_go(
    held: Mapping[Key, int | None], wanted: Collection[Key], need: float, free: float
) -> list[Key]:
    """Return what goes: the models used least recently, and no more of them than it takes.

    What is asked for now never goes. Where all others together do not make the room, all go.

    Args:
        held: Bytes of all models in memory, the one used least recently first; None for one that
            goes as soon as it is not asked for.
        wanted: Those that are asked for now.
        need: Bytes that these take beside what they have already.
        free: Bytes that may be taken.
    """
    others = sorted((it for it in held if it not in wanted), key=lambda it: held[it] is not None)
    gone = []
    for key in others:
        size = held[key]
        if size is not None and need <= free:
            break
        gone.append(key)
        free += size or 0
    return gone
