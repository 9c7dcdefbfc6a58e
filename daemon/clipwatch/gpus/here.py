"""The GPUs of this machine that may be used, as it is now."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from clipwatch.gpus.nvml import Gpu, read_gpus
from clipwatch.gpus.usable import Refusal, merged, usable

if TYPE_CHECKING:
    from clipwatch.settings import Settings


def usable_gpus(settings: Settings) -> tuple[Gpu, ...] | Refusal:
    """Ask the driver, and return the GPUs to evaluate on, the best first, or why there is none.

    () where the device is none, or nothing is known of GPUs.
    """
    folders = (settings.paths.output_dir, settings.paths.working_dir)
    return gpus_beside(settings.compute.device, folders, share=settings.compute.share_gpu)


def gpus_beside(
    device: str, folders: tuple[Path, ...], *, share: bool
) -> tuple[Gpu, ...] | Refusal:
    """Do the same for devices with commas, where the training works in these folders.

    What our own processes have there counts as free: an evaluator that is handed on, with all that
    it keeps, gives way to what is asked for next.
    """
    names = device.split(",")
    if names[0] in ("cpu", "mps"):
        return ()
    gpus = read_gpus()
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    users = {process.pid for gpu in gpus or () for process in gpu.processes} - own
    ask = partial(
        usable,
        gpus=None if gpus is None else tuple(_without(it, own) for it in gpus),
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        order=os.environ.get("CUDA_DEVICE_ORDER"),
        own_pids=own,
        training={pid for pid in users if works_in(pid, folders)},
        share=share,
    )
    return merged([ask(it) for it in names])


def _without(gpu: Gpu, own: AbstractSet[int]) -> Gpu:
    """Return a GPU as if these processes had no memory there."""
    taken = sum(it.used_bytes or 0 for it in gpu.processes if it.pid in own)
    return replace(gpu, free_bytes=gpu.free_bytes + taken)


def works_in(pid: int, folders: tuple[Path, ...]) -> bool:
    """Whether a process was started in one of the folders, or with one in its command line."""
    try:
        process = psutil.Process(pid)
        command, place = process.cmdline(), Path(process.cwd())
    except (psutil.Error, OSError):  # it ended, or is somebody else's
        return False
    if place in map(Path.resolve, folders):
        return True
    names = [str(folder) for folder in folders if folder != Path(folder.anchor)]
    return any(name in word for name in names for word in command)
