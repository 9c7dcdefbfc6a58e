"""Where trainers leave their event files, so that our curves stand beside their loss.

accelerate writes to logging_dir/project, others into logging_dir or a folder of their own below it,
sd-scripts into one two levels down that is called by the time of the start (network_train in
[prefix]20261127230916). OneTrainer has tensorboard/TIME in its workspace, diffusion-pipe writes
into the run's own folder, EveryDream2 above its ckpts/.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from clipwatch.delivery.trackers import Target
from clipwatch_adapters.tensorboard import event_files as _events

_TIME = re.compile(r"(?P<series>.*?)\d{4}-?\d{2}-?\d{2}[-_]?\d{2}-?\d{2}-?\d{2}", re.ASCII)
_PIPE = re.compile(r"\d{8}_\d{2}-\d{2}-\d{2}", re.ASCII)


def trainer_run(target: Target) -> Path | None:
    """Find the trainer's run: the project's folder, else the only one with the trainer's events.

    Of those that are called by the time of their start, and alike but for it, the newest counts;
    several others tell nothing, so none is taken.
    """
    return named_run(target) or _run_in(target.logging_dir) or _elsewhere(target.output_dir)


def named_run(target: Target) -> Path | None:
    """Find the trainer's run by the project's name, which leads nowhere else."""
    named = inside(target.logging_dir, target.project)
    try:
        return named if named.is_dir() else None
    except PermissionError:
        return None


def inside(folder: Path, project: str) -> Path:
    """Return the project's folder; a name that leads out of `folder` becomes a plain one."""
    named = Path(os.path.normpath(folder / project))
    plain = project.replace("/", "-").strip(".-") or "project"
    return named if folder in named.parents else folder / plain


def _elsewhere(output: Path) -> Path | None:
    """Find the run of a trainer that has no folder for logs."""
    above = {"save": output.parent / "tensorboard", "ckpts": output.parent}.get(output.name)
    found = _run_in(output / "tensorboard") or (_run_in(above) if above else None)
    try:
        if found or _has_events(output):
            return found or output
        runs = [it for it in output.iterdir() if _PIPE.fullmatch(it.name) and _has_events(it)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return max(runs, default=None)


def _run_in(logs: Path) -> Path | None:
    try:
        if _has_events(logs):
            return logs
        found = {
            folder: run
            for folder in logs.iterdir()
            if folder.is_dir() and (run := _own_or_only(folder))
        }
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    times = {name: match for name in found if (match := _TIME.fullmatch(name.name))}
    alike = len({match["series"] for match in times.values()}) == 1
    if len(found) > 1 and not (alike and times.keys() == found.keys()):
        return None
    return found[max(found)] if found else None


def _own_or_only(folder: Path) -> Path | None:
    """Return a folder with events, or the only one in it that has some."""
    if _has_events(folder):
        return folder
    inside = [path for path in folder.iterdir() if path.is_dir() and _has_events(path)]
    return inside[0] if len(inside) == 1 else None


def _has_events(folder: Path) -> bool:
    """Tell whether a stock writer's event file is in the folder."""
    return any(
        "tfevents" in name and not name.startswith(_events.PREFIX) for name in os.listdir(folder)
    )
