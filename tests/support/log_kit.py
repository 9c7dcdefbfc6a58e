"""A log to be damaged, and what reading and verifying make of it."""

from __future__ import annotations

from pathlib import Path

from clipwatch.domain.events import EvaluationStarted, ImageScore, ImagesScored, RunStarted
from clipwatch.journal import Journal, Recorded
from clipwatch.journal.repair.inspection import Fault, verify
from clipwatch.kit.errors import JournalError

LONG = 150
"""The image whose event spills into further pages; it is the third after its number."""


def write(journal: Journal, batches: int) -> None:
    """Write 2 events, then commits of 3."""
    journal.append("r", "run", 0, [RunStarted("/out", "p", (), {}, "1")])
    journal.append("r", "e", 0, [EvaluationStarted("e", "c", 1, "d", "p", {})])
    for n in range(0, 3 * batches, 3):
        journal.append("r", "e", 1 + n, [scored(n + k) for k in (0, 1, 2)])


def scored(n: int) -> ImagesScored:
    """Return the event of the n-th image."""
    name = "long" * 5000 if n == LONG else "p" * (7 * n % 60)
    return ImagesScored("e", (ImageScore(name, 0, n, {"": 0.25}),))


def outcome(path: Path) -> tuple[list[Recorded], JournalError | None]:
    """Return what `Journal.read` gives, and what ended it."""
    read: list[Recorded] = []
    try:
        with Journal(path, read_only=True) as journal:
            read.extend(journal.read())
    except JournalError as error:
        return read, error
    return read, None


def verified(path: Path) -> tuple[list[Recorded], list[str]]:
    """Return the events that can be read and the faults, as told."""
    found = list(verify(path))
    kept = [item for item in found if isinstance(item, Recorded)]
    return kept, [str(item) for item in found if isinstance(item, Fault)]


def flipped(data: bytes, bit: int) -> bytes:
    """Return data with one bit changed."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
