"""What lies at an address, for the layouts, and what of it a copy is made of: names alone, no disk.

A server may name anything: what would lie outside of our folder, or under no name of a file, is
not there for us.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from clipwatch.domain.kinds import Unit
from clipwatch.layouts.base import Candidate, Listing
from clipwatch.layouts.claims import Layouts, claims
from clipwatch.layouts.lying import lying

_LONGEST_NAME: Final = 255  # bytes, of all file systems of Linux
_DEEPEST: Final = 16
_LONGEST: Final = 1024  # bytes, as S3 has it

SMALL: Final = 64 * 2**20
"""Bytes of all that is no weights; as in staging, the largest tokenizer files have half of it."""

_WEIGHTS: Final = ".safetensors"
_CONFIGS: Final = frozenset({".json", ".txt", ".model", ".toml", ".yaml", ".yml", ".jinja"})
_MARKS: Final = frozenset({".guard"})
_RESUMING: Final = "optimizer"
"""How the names of files begin that a training goes on from."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at an address; `path` is relative to it, `tag` another one when it is written anew.

    `mtime` in seconds since 1970, None where the server does not tell.
    """

    path: str
    size: int
    tag: str
    mtime: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A checkpoint at an address, as its name tells it.

    Attributes:
        step: Counts `unit`s.
        unit: As a candidate's.
        name: As a candidate's.
        place: Where its copy is found.
        files: What is copied.
        marks: Paths of what is not: it stands there empty, as layouts go by the names, too.
    """

    step: int
    unit: Unit
    name: str
    place: Path
    files: tuple[RemoteFile, ...]
    marks: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of its copy."""
        return sum(it.size for it in self.files)

    @property
    def signature(self) -> str:
        """Another one when anything of what is copied was written anew."""
        told = "\0".join(f"{it.path}\0{it.size}\0{it.tag}" for it in self.files)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Found:
    """What an address holds: its listing as if it lay in our folder, and its checkpoints.

    The newest come first; `lying` is what is passed over, "" for nothing.
    """

    listing: Listing
    entries: tuple[Entry, ...]
    lying: str


def is_safe(path: str) -> bool:
    """Whether a name leads to a file below a folder and nowhere else, on any file system."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and len(parts) <= _DEEPEST
        and len(path.encode()) <= _LONGEST
        and all(it not in ("", ".", "..") and len(it.encode()) <= _LONGEST_NAME for it in parts)
    )


def is_weights(file: RemoteFile) -> bool:
    """Whether a file is one of weights that may be read."""
    return file.path.endswith(_WEIGHTS)


def is_needed(file: RemoteFile) -> bool:
    """Whether evaluation may read it: weights, small texts, marks; no pickle, no code."""
    name = PurePosixPath(file.path).name
    suffix = PurePosixPath(name).suffix
    if name.startswith(_RESUMING):
        return False
    return is_weights(file) or (file.size <= SMALL and (suffix in _CONFIGS or name in _MARKS))


def found(
    root: Path, files: Iterable[RemoteFile], layouts: Layouts, kept: Iterable[str] = ()
) -> Found:
    """Return the checkpoints among files, as they would lie in `root`.

    Args:
        root: Our folder.
        files: At the address.
        layouts: To ask.
        kept: Paths of our copies, of which the originals may be deleted.

    Raises:
        ClipwatchError: A layout fails.
    """
    safe = {it.path: it for it in files if is_safe(it.path)}
    folders = {str(it) for path in safe for it in PurePosixPath(path).parents}
    safe = {path: it for path, it in safe.items() if path not in folders}  # a bucket may have both
    listing = listed(root, sorted({*safe, *kept}))
    mine = claims(listing, layouts)
    entries = (_entry(it.candidate, root, safe) for it in mine)
    there = tuple(it for it in entries if it.files or it.marks)
    return Found(listing, there, lying(listing, mine, layouts))


def listed(root: Path, paths: Sequence[str], folder: str = "") -> Listing:
    """Return the listing of a folder as the layouts ask it; "" for `root`."""
    start = f"{folder}/" if folder else ""
    below = [path.removeprefix(start) for path in paths if path.startswith(start)]
    held = {str(it) for path in below for it in (PurePosixPath(path), *PurePosixPath(path).parents)}
    return Listing(
        root / folder,
        tuple(sorted({path.partition("/")[0] for path in below if "/" in path})),
        tuple(sorted(path for path in below if "/" not in path)),
        held.__contains__,
        inside=lambda name: listed(root, paths, f"{start}{name}"),
    )


def _entry(candidate: Candidate, root: Path, files: Mapping[str, RemoteFile]) -> Entry:
    at = candidate.root.relative_to(root).as_posix()
    start = "" if at == "." else f"{at}/"
    if candidate.files:
        paths = [f"{start}{it}" for it in candidate.files]
    else:
        paths = [path for path in files if path.startswith(start)]
    there = [files[path] for path in sorted(paths) if path in files]
    return Entry(
        candidate.step,
        candidate.unit,
        candidate.name,
        candidate.root,
        tuple(it for it in there if is_needed(it)),
        tuple(it.path for it in there if not is_needed(it)),
    )
