"""What lies in a folder that somebody named: no training, where nothing orders all; or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipwatch.layouts import apart
from clipwatch.layouts.claims import FILES, claims, entries, installed
from clipwatch.layouts.files import NotReadable
from clipwatch.layouts.listing import listed
from clipwatch.layouts.lying import LEFT_BESIDE, below


def elsewhere(output_dir: Path) -> list[tuple[Path, int]]:
    """Return the folders with checkpoints, and how many, below one that has none of its own.

    A training's folder is none of these itself, though a final model may lie at its top.

    Raises:
        ClipwatchError: A layout fails.
    """
    try:
        listing = listed(output_dir)
    except (OSError, NotReadable):  # whoever looks at it tells
        return []
    trainings = installed()
    alone = {it.name for it in apart.candidates(listing)}
    inside = {name: len(claims(listing.inside(name), trainings)) for name in alone}
    if claims(listing, trainings) or not all(inside.values()):
        return []
    if inside:
        return [(listing.root / name, inside[name]) for name in sorted(inside)]
    return below(listing, trainings) or below(listing, {FILES: apart})


def unordered(output_dir: Path, only: Sequence[str] = (), *, ranked: bool = False) -> bool:
    """Whether the checkpoints in a folder are to be taken for files of their own.

    So it is if no layout knows any, or one that is named is none of a training's. Where all are to
    be `ranked` also if others lie beside a training's, or those of several trainings.

    Args:
        output_dir: Need not be there.
        only: The names that are meant, none for all.
        ranked: All are compared with each other.

    Raises:
        ClipwatchError: A layout fails.
    """
    try:
        listing = listed(output_dir)
    except (OSError, NotReadable):  # whoever looks at it tells
        return False
    found = claims(listing, installed())
    alike = list(apart.candidates(listing))
    if not found:
        return bool(alike) and (bool(only) or not elsewhere(output_dir))
    files = all(it.candidate.files for it in found)
    meant = only or [it.name for it in alike if it.files and ranked and files]
    series = {it.candidate.series for it in found} - {""}
    beside = {it for it in meant if not it.startswith(LEFT_BESIDE)} - entries(found, listing.root)
    return bool(beside) or (ranked and not only and len(series) > 1)
