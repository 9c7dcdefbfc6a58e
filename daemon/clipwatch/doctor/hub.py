"""What the Hub's cache on this disk holds."""

from __future__ import annotations

from pathlib import Path

from clipwatch.evaluator.hub import cache_of


def cached(name: str, revisions: tuple[str, ...]) -> list[Path]:
    """Return the folders of a model's revisions that lie in the cache, whole or not."""
    room = cache_of(name)
    found = []
    for revision in revisions:
        reference = room / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        found.append(room / "snapshots" / commit)
    return [folder for folder in found if folder.is_dir()]


def conversions(name: str) -> tuple[str, ...]:
    """Return the references of pull requests that were fetched earlier."""
    room = cache_of(name)
    return tuple(f"refs/pr/{path.name}" for path in (room / "refs" / "refs" / "pr").glob("*"))
