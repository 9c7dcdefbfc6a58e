"""Which folders are checkpoints, and which trainer's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from clipwatch.layouts import diffusers_script, pipeline_folder, simpletuner
from clipwatch.layouts.files import NotReadable, refusal


class Layout(Protocol):
    """How one trainer names and completes its checkpoints; a module fulfils it."""

    def step(self, name: str) -> int | None:
        """Return the global step that a folder's name tells, None if it is no checkpoint's name."""

    def owns(self, names: set[str]) -> bool:
        """Tell from the names in a checkpoint folder whether this trainer wrote it."""

    def settling(self, names: set[str], siblings_marked: bool) -> float:
        """Return how many settling times it must be unchanged: 0.0 when a marker says complete.

        Raises:
            NotWhole: It is known to be incomplete.
        """


LAYOUTS: tuple[Layout, ...] = (simpletuner, pipeline_folder, diffusers_script)
"""In this order: the first that owns a folder decides."""


def candidates(output_dir: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield (step, name, path) of the folders that are named like checkpoints.

    A link to a folder is one too, unless it is a second name for a checkpoint beside it.

    Raises:
        FileNotFoundError: The output directory does not exist.
        NotReadable: It may not be read.
    """
    try:
        with os.scandir(output_dir) as entries:
            found = list(entries)
    except PermissionError as error:
        raise refusal(output_dir) from error
    except NotADirectoryError as error:
        message = f"{output_dir} is a file, not an output directory"
        raise NotReadable(message, fix="correct output_dir") from error
    for entry in found:
        try:
            if not entry.is_dir():
                continue
        except OSError:  # a link that leads in a circle
            continue
        step, path = step_of(entry.name), Path(entry.path)
        if step is None or not _is_checkpoint(path):
            continue
        if not (entry.is_symlink() and _is_second_name(path)):
            yield step, entry.name, path


def _is_checkpoint(path: Path) -> bool:
    """Folders with a number in their name count only if they hold a pipeline."""
    return simpletuner.step(path.name) is not None or exists(path / pipeline_folder.INDEX)


def _is_second_name(link: Path) -> bool:
    target = link.resolve()
    beside = target.parent == link.parent.resolve()
    return beside and step_of(target.name) is not None and _is_checkpoint(target)


def step_of(name: str) -> int | None:
    """Return the global step that a checkpoint's name tells, None if it tells none."""
    return next((step for layout in LAYOUTS if (step := layout.step(name)) is not None), None)


def exists(path: Path) -> bool:
    """Whether it is there as far as we can see; Path.exists raises where we may not look."""
    return os.path.exists(path)  # noqa: PTH110 - see above
