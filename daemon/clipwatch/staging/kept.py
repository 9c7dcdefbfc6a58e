"""What is kept of a checkpoint, for the evaluator to read and for us to let go."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipwatch.domain.events import WeightFile
from clipwatch.domain.state import Checkpoint, CheckpointKey
from clipwatch.kit.filesystems import inode_of, planted
from clipwatch.layouts.files import NotReadable, NotWhole, content_digest

_LONGEST: Final = 230
"""Bytes of a checkpoint's name, so that a digest and a suffix fit into the 255 of file systems."""

_CUT: Final = 50
"""Characters, of up to 4 bytes, of the first part of a longer one."""

_GOES_ON: Final = "~"

_SEAL: Final = ".whole"
"""Beside the files of a copied pipeline: tells that those are all there that have no digest."""

_WHOLE: Final = re.compile(r"(.+)-([0-9a-f]{16})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint as the evaluator is to read it.

    `files` are its weights as they stat in the folder `path`; `how` it is kept: "reflink", "pin",
    "copy", or "in place" when nothing keeps it from being deleted.
    """

    path: str
    files: tuple[WeightFile, ...]
    how: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What we have of a checkpoint: a `folder` to delete and `descriptors` to close in the end.

    `held` is None for a copy of an earlier life that nobody has looked at yet.
    """

    held: Held | None
    folder: Path | None = None
    descriptors: tuple[int, ...] = ()

    @property
    def durable(self) -> bool:
        """Whether it outlives us, and any change of the original."""
        return self.folder is not None and not self.descriptors

    def serves(self, checkpoint: Checkpoint | None) -> bool:
        """Whether it is of use for a checkpoint that has the same key."""
        if checkpoint is None or self.held is None or self.durable:
            return checkpoint is not None
        return self.held.files == checkpoint.files

    def release(self) -> None:
        """Delete and close; links go first, for the numbers in them soon mean other files."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        for descriptor in self.descriptors:
            os.close(descriptor)


def key(checkpoint: Checkpoint) -> CheckpointKey:
    """Return what tells one thing to keep from another."""
    return checkpoint.name, checkpoint.digest


def place_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Return the folder of a whole copy; a suffix makes it another that will not be taken for it.

    A name that leaves no room for ours is cut in two, one folder in the other.

    Raises:
        ValueError: The checkpoint's name is none that a folder can have.
    """
    name = checkpoint.name
    if (folder / name).parent != folder:
        raise ValueError(f"{name!r} is not the name of a folder")
    if len(os.fsencode(name)) > _LONGEST:
        folder, name = folder / f"{name[:_CUT]}{_GOES_ON}", name[_CUT:]
    return folder / f"{name}-{checkpoint.digest}"


def left_behind(folder: Path) -> dict[CheckpointKey, Kept]:
    """Return the whole copies of an earlier life by key, and delete whatever else is in `folder`.

    Pins died with the process that held them, and what it did not finish is of no use.
    """
    found: dict[CheckpointKey, Kept] = {}
    ours = folder.is_dir() and not planted(folder)
    for path in sorted(folder.iterdir()) if ours else ():
        match = _WHOLE.fullmatch(path.name)
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif match is not None:
            found[match[1], match[2]] = Kept(None, path)
        elif path.name.endswith(_GOES_ON) and (rests := left_behind(path)):
            begins = path.name.removesuffix(_GOES_ON)
            found |= {(begins + rest, digest): kept for (rest, digest), kept in rests.items()}
        else:
            shutil.rmtree(path, ignore_errors=True)
    return found


def looked_at(kept: Kept, checkpoint: Checkpoint) -> Kept | None:
    """Return a copy of an earlier life as held, or None when it is not whole.

    It was whole once: but a power cut, a kill amid its deletion or a backup may have left a part.
    """
    if kept.folder is None or not holds(kept.folder, checkpoint):
        return None
    if checkpoint.kind == "pipeline" and not _sealed(kept.folder, checkpoint):
        return None
    return Kept(as_held(kept.folder, checkpoint, "copy"), kept.folder)


def seal(folder: Path, checkpoint: Checkpoint) -> None:
    """Note what a copy holds beside its weights, for `looked_at`.

    Raises:
        OSError: It cannot be written.
    """
    if checkpoint.kind == "pipeline":
        number = os.open(folder / _SEAL, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w") as file:
            file.write(_others(folder, checkpoint))
            file.flush()
            os.fsync(number)


def _sealed(folder: Path, checkpoint: Checkpoint) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return (folder / _SEAL).read_text() == _others(folder, checkpoint)
    return False


def _others(folder: Path, checkpoint: Checkpoint) -> str:
    """Return a digest of names and contents of all but the weights: small files."""
    weights = {folder / file.path for file in checkpoint.files} | {folder / _SEAL}
    digest = hashlib.sha256()
    for path in sorted(set(folder.rglob("*")) - weights):
        if path.is_file():
            data = path.read_bytes()
            digest.update(b"%s\0%d\0" % (os.fsencode(path.relative_to(folder)), len(data)) + data)
    return digest.hexdigest()


def holds(folder: Path, checkpoint: Checkpoint) -> bool:
    """Whether a folder holds the weights that were found, as far as their digest tells."""
    with suppress(OSError, NotWhole, NotReadable):
        return content_digest(folder, checkpoint.files) == checkpoint.digest
    return False


def as_held(folder: Path, checkpoint: Checkpoint, how: str) -> Held:
    """Return what a folder of ours holds.

    Raises:
        OSError: A weight file is not in it.
    """
    found = ((file.path, (folder / file.path).stat()) for file in checkpoint.files)
    files = (WeightFile(path, s.st_size, s.st_mtime_ns, inode_of(s)) for path, s in found)
    return Held(str(folder), tuple(files), how)
