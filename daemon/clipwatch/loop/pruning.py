"""Images are kept of the newest evaluations only; scores stay in the log."""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path

from clipwatch.domain.state import Run


def prune(run: Run, images: Path, keep: int, wanted: Container[str]) -> None:
    """Delete the images of a run's finished evaluations, under each of its protocols.

    Args:
        run: As the log has it.
        images: The folder of the run's images.
        keep: Of how many of a protocol, the newest, they stay; -1 for all.
        wanted: Evaluations whose images are still to be published: they stay as well.
    """
    for scored in run.scored.values() if keep >= 0 else ():
        for id_ in scored[: max(0, len(scored) - keep)]:
            if id_ not in wanted:
                shutil.rmtree(images / id_, ignore_errors=True)
