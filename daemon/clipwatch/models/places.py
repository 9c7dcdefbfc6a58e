"""Where a model lies: a folder of its own, or the Hub's cache on this disk."""

from __future__ import annotations

from pathlib import Path


def cache_of(name: str) -> Path:
    """Return where the Hub's cache keeps a model, whether it is there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}")


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


def places(name: str, revision: str) -> list[Path]:
    """Return the folders in which a model may lie; a local one only if it is named."""
    return [Path(name)] if Path(name).is_absolute() else cached(name, (revision or "main",))


def scorer_places(name: str, revision: str) -> list[Path]:
    """Return the same for a scorer, whose safetensors may lie in a conversion's pull request."""
    if revision or Path(name).is_absolute():
        return places(name, revision)
    return cached(name, ("main", *conversions(name)))
