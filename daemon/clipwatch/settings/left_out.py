"""What to know of a key that was left out, where its default is seldom what a user expects."""

from __future__ import annotations

from typing import NamedTuple

from clipwatch.settings.settings import Settings


class LeftOut(NamedTuple):
    """What holds, and what to do where that is not meant; both make one line."""

    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.found}: {self.fix}"


def trackers(settings: Settings) -> LeftOut | None:
    """Tell where scores stay if nobody named a tracker; None where some, or "none", are named."""
    if settings.publishing.trackers or settings.source("report_to") != "default":
        return None
    return LeftOut(
        "none, so the scores stay in the log (clipwatch status)",
        'set report_to, as "clipwatch": {"report_to": "tensorboard"}, or "none" if it is meant',
    )


def device(settings: Settings) -> LeftOut | None:
    """Tell that "auto" came to the CPU; None for a GPU, and for a CPU that was chosen.

    Where evaluations run elsewhere it says nothing: GPUs may be there.
    """
    if settings.compute.executor != "local":
        return None
    if settings.compute.device != "cpu" or not settings.source("device").endswith("(auto)"):
        return None
    return LeftOut(
        "no GPU is seen, so the CPU makes the images, which takes many times as long",
        "where nvidia-smi shows one, look at CUDA_VISIBLE_DEVICES or set device to 'cuda' (with a "
        "CUDA build of torch); set it to 'cpu' if it is meant",
    )
