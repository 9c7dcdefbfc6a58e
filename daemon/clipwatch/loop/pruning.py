"""Images go when nobody needs them any more, and the log knows of it; scores stay there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

from clipwatch.domain.retention import to_delete
from clipwatch.domain.state import CheckpointKey, Evaluation
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import images_of
from clipwatch.settings.parts import Evaluating


class Pruner:
    """Deletes the images of one run.

    What is deleted is written down first: after a kill in between nobody looks for what may be
    gone, and what is left of it goes with the next start.

    Args:
        log: Of the run.
        state_dir: The folder of the log and the images.
    """

    def __init__(self, log: RunLog, state_dir: Path) -> None:
        self._log = log
        self._images = images_of(state_dir, log.name)
        self._sizes: dict[str, int] = {}  # of scored ones, to which nothing comes any more

    def finish(self) -> list[Evaluation]:
        """Delete what was written down as deleted and is there; return whose images stay."""
        there = list(self._there())
        for known in there:
            if known.images_deleted:
                self._remove(known.id)
        return [known for known in there if not known.images_deleted]

    def prune(
        self, asked: Evaluating, owed: Container[str], held: Container[CheckpointKey]
    ) -> None:
        """Delete what the settings do not keep; see `to_delete`."""
        keep, most = asked.keep_images, asked.keep_images_gb
        if keep < 0 and most is None:
            return
        there = {it.id: self._size(it) if most else 0 for it in self.finish()}
        for event in to_delete(self._log.run, there, keep, most, owed, held):
            self._log.record_evaluation(event.evaluation, event)
            self._remove(event.evaluation)

    def _there(self) -> Iterator[Evaluation]:
        """Yield the evaluations that have a folder of images."""
        names: set[str] = set()
        with suppress(OSError), os.scandir(self._images) as entries:
            names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        for known in self._log.run.evaluations.values():
            if known.checkpoint in names and _is_folder(self._images / known.id):
                yield known

    def _size(self, known: Evaluation) -> int:
        if known.id in self._sizes:
            return self._sizes[known.id]
        found = 0
        with suppress(OSError), os.scandir(self._images / known.id) as entries:
            found = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        if known.state == "scored":
            self._sizes[known.id] = found
        return found

    def _remove(self, evaluation: str) -> None:
        """Delete an evaluation's folder, and those above it that hold nothing else."""
        self._sizes.pop(evaluation, None)
        made = self._images / evaluation
        shutil.rmtree(made, ignore_errors=True)
        with suppress(OSError):  # one of them is not empty
            made.parent.rmdir()
            made.parent.parent.rmdir()


def _is_folder(path: Path) -> bool:
    """Whether it is a folder by itself, and what it lies in is one: no link leads elsewhere."""
    return path.is_dir() and not path.is_symlink() and not path.parent.is_symlink()
