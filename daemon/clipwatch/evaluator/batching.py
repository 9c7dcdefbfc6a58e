"""How many images are generated at once: twice as many while that pays and memory allows it."""

from __future__ import annotations

import math
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil
import torch

_PAYS: Final = 0.95
"""Twice the batch has to take at most this share of the seconds an image."""

_MISSES: Final = 2
"""Sizes in a row that must not pay."""

SHARE: Final = 0.8
"""Of the memory that is free; others use it, too, and blocks do not fit without gaps."""

_CGROUP: Final = Path("/sys/fs/cgroup")
"""In a container it shows the container's own group (cgroups(7), version 2)."""

_USED: Final = "memory.current"
_GIB: Final = 1 << 30
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the batch size with the fewest seconds an image.

    The first batch warms up and is not measured. From then on the size is doubled as long as the
    seconds an image fall by at least 5 %. Other programs disturb measurements: a size that does not
    pay is measured once more, and two in a row must not pay before the best one is settled on.

    Attributes:
        size: Images to generate at once, 1 to `limit`.
        limit: The most that are tried.
        settled: Whether `size` stays.
        warm: Whether a batch has been generated.
        best: The best size so far, 0 before any was measured.
        seconds: How long an image took with it.
        again: Whether `size` did not pay and is measured once more.
        misses: How many sizes in a row did not pay.
    """

    size: int
    limit: int
    settled: bool = False
    warm: bool = False
    best: int = 0
    seconds: float = math.inf
    again: bool = False
    misses: int = 0

    @property
    def wider(self) -> int:
        """The size that would be tried next."""
        return min(2 * self.size, self.limit)

    def after(self, seconds_per_image: float, *, fits: bool) -> Search:
        """Return what follows from a full batch of `size`.

        Args:
            seconds_per_image: How long the batch took, shared out.
            fits: Whether there is memory for a batch of `wider`.
        """
        if self.settled:
            return self
        if not self.warm:
            return replace(self, warm=True)
        pays = seconds_per_image <= _PAYS * self.seconds
        found = self
        if seconds_per_image < self.seconds:
            found = replace(self, best=self.size, seconds=seconds_per_image)
        if not (pays or self.again):
            return replace(found, again=True)
        misses = 0 if pays else self.misses + 1
        if fits and self.wider > self.size and misses < _MISSES:
            return replace(found, size=self.wider, again=False, misses=misses)
        return replace(found, size=found.best or self.size, settled=True)

    def halved(self, size: int) -> Search:
        """Return what follows from a batch of `size` that did not fit: half of it, for good."""
        return replace(self, size=max(1, size // 2), settled=True)

    def capped(self, limit: int) -> Search:
        """Return the same with at most so many images at once."""
        if limit < self.size:  # which would not have been reached if `limit` were not better
            return Search(limit, limit, settled=True)
        return replace(self, limit=min(limit, self.limit))


class Gauge:
    """Measures what a batch takes of a GPU's memory, or else the machine's, from here on.

    Args:
        device: A torch device.
        bound_gib: The most of a GPU's memory that may be taken; None for all of it.
    """

    def __init__(self, device: str, bound_gib: float | None) -> None:
        self._device = device
        self._bound_gib = bound_gib
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            with suppress(OSError):  # elsewhere the peak is that of all time: on the safe side
                Path("/proc/self/clear_refs").write_text("5", "ascii")
            self._before = psutil.Process().memory_info().rss

    def fits(self, size: int, wider: int) -> bool:
        """Whether there is memory for a batch of `wider`, after one of `size`."""
        taken = self._peak() - self._before
        return taken * wider / size <= SHARE * free_bytes(self._device, self._bound_gib)

    def _peak(self) -> int:
        if self._device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def free_bytes(device: str, bound_gib: float | None) -> float:
    """Return how much more may be taken of a GPU's memory, or else the machine's."""
    if device.startswith("cuda"):
        used = torch.cuda.memory_allocated(device)
        # what torch keeps for itself is as good as free
        kept = torch.cuda.memory_reserved(device) - used
        bound = math.inf if bound_gib is None else bound_gib * _GIB
        return min(torch.cuda.mem_get_info(device)[0] + kept, bound - used)
    return min(psutil.virtual_memory().available, _left_to_us())


def _left_to_us() -> float:
    """Return the bytes that our control group may still take; infinite without a bound."""
    try:
        most, used = ((_CGROUP / name).read_text("ascii") for name in ("memory.max", _USED))
        return int(most) - int(used)
    except (OSError, ValueError):  # no version 2, not mounted, or "max"
        return math.inf
