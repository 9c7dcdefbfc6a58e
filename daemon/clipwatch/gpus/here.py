"""The choice of a GPU on this machine, as it is now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from clipwatch.gpus.choice import Choice, Refusal, choose
from clipwatch.gpus.nvml import read_gpus

if TYPE_CHECKING:
    from clipwatch.settings import Settings


def choose_gpu(settings: Settings) -> Choice | Refusal:
    """Ask the driver, and return the GPU to evaluate on or why there is none."""
    if settings.device in ("cpu", "mps"):
        return Choice(None)
    gpus = read_gpus()
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    users = {process.pid for gpu in gpus or () for process in gpu.processes} - own
    folders = (settings.output_dir, settings.working_dir)
    return choose(
        settings.device,
        gpus,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        order=os.environ.get("CUDA_DEVICE_ORDER"),
        own_pids=own,
        training={pid for pid in users if works_in(pid, folders)},
        share=settings.share_gpu,
    )


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
