"""What trainers other than SimpleTuner leave beside their checkpoints, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipwatch.settings.values import Given


@dataclass(frozen=True, slots=True)
class Found:
    """What an output directory tells of its training.

    Attributes:
        trainer: The layout's name, "" if nothing was found.
        keys: A layer of values, beneath all that the user wrote.
        remarks: What was found and is not followed, a line each.
    """

    trainer: str
    keys: tuple[tuple[str, Given], ...]
    remarks: tuple[str, ...]


def found(output_dir: Path, files: Sequence[Path] = ()) -> Found:  # noqa: ARG001 - nothing so far
    """Return what is known of the training that fills a folder; nothing so far.

    Args:
        output_dir: Absolute; need not be there.
        files: Those in it that are meant, none for all.
    """
    return Found("", (), ())
