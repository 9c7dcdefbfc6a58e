"""Images are kept of the newest evaluations, and of those under way; scores stay in the log."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from clipwatch.domain.state import CheckpointKey, Evaluation, Run
from clipwatch.results.reading import images_of


def prune(
    run: Run, state_dir: Path, keep: int, wanted: Container[str], held: Container[CheckpointKey]
) -> None:
    """Delete the images of a run that nobody needs any more, under each of its protocols.

    Args:
        run: As the log has it.
        state_dir: The folder of the log and the images.
        keep: Of how many of a protocol, the newest, they stay; -1 for all.
        wanted: Evaluations whose images are still to be published: they stay as well.
        held: Checkpoints that can be evaluated though their folders may be gone.
    """
    images = images_of(state_dir, run.name)
    there = _folders(images) if keep >= 0 else set()
    newest = {id_ for ids in run.scored.values() for id_ in ids[max(0, len(ids) - keep) :]}
    for known in run.evaluations.values():
        if known.checkpoint not in there or known.id in newest or known.id in wanted:
            continue
        if known.state == "scored" or not _goes_on(run, known, held):
            _remove(images / known.id)


def _goes_on(run: Run, evaluation: Evaluation, held: Container[CheckpointKey]) -> bool:
    """Whether the weights of an unfinished evaluation are still to be had."""
    there = run.checkpoints.get(evaluation.checkpoint)
    whole = there is not None and there.state == "whole" and there.digest == evaluation.digest
    return whole or (evaluation.checkpoint, evaluation.digest) in held


def _folders(folder: Path) -> set[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    return set()


def _remove(made: Path) -> None:
    """Delete an evaluation's folder, and those above it that hold nothing else."""
    weights = made.parent
    if not weights.is_symlink():
        shutil.rmtree(made, ignore_errors=True)
        with suppress(OSError):  # one of them is not empty
            weights.rmdir()
            weights.parent.rmdir()
